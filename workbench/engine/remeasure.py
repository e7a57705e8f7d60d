"""Measuring a model that is already there: a run, one of its checkpoints, or any model SPEC."""

from pathlib import Path

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.data.spec import evaluated_splits
from workbench.engine.build import learnt_widths, load_teacher, make_evaluator, make_objective
from workbench.engine.checkpoint import TRAINING, load_learnt
from workbench.engine.device import resolve_device
from workbench.engine.evaluation import Measured
from workbench.engine.precheck import no_held_out_pairs
from workbench.losses.learnt import LearntParts
from workbench.losses.objective import Objective
from workbench.models.clip import Clip
from workbench.models.names import find_folder
from workbench.models.source import load_student
from workbench.models.teacher import Teacher
from workbench.models.weights import load_weights
from workbench.runs.directory import RunDirectory


def remeasure(
    source: str, data: str | None, *, num_pairs: int = 0, block_size: int | None = None, runs_dir: Path = Path("runs")
) -> Measured:
    """Every metric of the model at ``source`` on the pairs of the SPEC ``data``.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint folder, or a model SPEC.
        data: None takes the run's validation pairs.

    Raises:
        ValueError: nothing is found at ``source``, or there are no pairs to measure on.
    """
    folder = find_folder(source, runs_dir)
    checkpoint = folder.absolute() if folder and (folder / TRAINING).is_file() else None
    run = _run_of(checkpoint) if checkpoint else None
    config = load_run_config(run.config_file) if run else RunConfig()
    device = resolve_device(config.train.device if run else "auto")
    student = load_student(source, runs_dir).to(device)
    teacher = load_teacher(config, device, runs_dir) if run else None
    objective = make_objective(config, teacher) if run else None
    learnt = _learnt(objective, student, teacher, checkpoint).to(device) if objective and checkpoint else None
    evaluator = make_evaluator(
        data or _validation(config, source, bool(run)),
        "validation",
        num_pairs,
        teacher,
        block_size or config.evaluate.block_size,
        device,
        config.data.prepare,
    )
    return evaluator.measure(student, learnt, objective.losses if objective else {})


def _run_of(checkpoint: Path) -> RunDirectory | None:
    run = RunDirectory(checkpoint.parent.parent)
    return run if run.exists else None


def _validation(config: RunConfig, source: str, is_run: bool) -> str:
    specs = [spec for split, spec, _ in evaluated_splits(config.data) if split == "validation"] if is_run else []
    if not specs:
        raise no_held_out_pairs(source)
    return specs[0]


def _learnt(objective: Objective, student: Clip, teacher: Teacher | None, checkpoint: Path) -> LearntParts:
    learnt = LearntParts(objective.losses, learnt_widths(objective, student, teacher))
    load_weights(learnt, load_learnt(checkpoint), str(checkpoint / TRAINING))
    return learnt
