"""Evaluate an existing model: a run, one of its checkpoints, or any model SPEC."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.data.spec import evaluated_splits, no_held_out_pairs
from workbench.engine.build import learned_widths, load_teacher, make_evaluator, make_objective
from workbench.engine.checkpoint import TRAINING, load_learned
from workbench.engine.device import resolve_device
from workbench.engine.evaluate import Measured
from workbench.losses.learned import LearnedParts
from workbench.losses.objective import Objective
from workbench.models.clip import Clip
from workbench.models.names import find_folder
from workbench.models.spec import load_student
from workbench.models.teacher import Teacher
from workbench.models.weights import load_weights
from workbench.progress import phase
from workbench.runs.checkpoints import read_manifest
from workbench.runs.directory import RunDirectory


def remeasure(
    source: str,
    data: str | None,
    *,
    num_pairs: int | None = None,
    block_size: int | None = None,
    runs_dir: Path = Path("runs"),
) -> Measured:
    """All metrics of the model at ``source`` on the pairs of the SPEC ``data``.

    A run whose teacher or loss file is missing is evaluated without agreement with the teacher; the notes say why.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint folder, or a model SPEC.
        data: None takes the run's validation pairs.
        num_pairs: the first ones, at most; 0 for all. None takes as many validation pairs as the run does, and all of
            any other ``data``.

    Raises:
        ValueError: there is no model at ``source``, or no pairs.
    """
    folder = find_folder(source, runs_dir)
    checkpoint = folder.absolute() if folder and (folder / TRAINING).is_file() else None
    run = _run_of(checkpoint) if checkpoint else None
    config = load_run_config(run.config_file) if run else RunConfig()
    device = resolve_device(config.train.device if run else "auto")
    with phase(f"loading {source}"):
        student = load_student(source, runs_dir).to(device)
    teacher, missing = _teacher(run, config, device, checkpoint) if run and checkpoint else (None, "")
    objective = make_objective(config, teacher) if run and not missing else None
    learnt = _learned(objective, student, teacher, checkpoint).to(device) if objective and checkpoint else None
    with _remedied(data):
        spec, default = (data, 0) if data else _validation(config, source, bool(run))
        number = default if num_pairs is None else num_pairs
        block_size, own = block_size or config.evaluate.block_size, config.data
        evaluator = make_evaluator(
            spec, "validation", number, teacher, block_size, device, own.prepare, bad_shards=own.bad_shards
        )
    notes = (f"agreement with the teacher is left out: {missing}",) if missing else ()
    return replace(evaluator.measure(student, learnt, objective.losses if objective else {}), notes=notes)


def _teacher(
    run: RunDirectory, config: RunConfig, device: torch.device, checkpoint: Path
) -> tuple[Teacher | None, str]:
    """The teacher that the run was trained with, or None and the reason."""
    for name, loss in config.loss.items():
        if loss.file and not Path(loss.file).is_file():
            return None, f"loss.{name}.file {loss.file} does not exist"
    try:
        teacher = load_teacher(config, device, run.path.parent)
    except ValueError as error:
        return None, f"teacher.model {config.teacher.model} cannot be loaded ({str(error).partition(chr(10))[0]})"
    known = read_manifest(checkpoint).get("teacher", {}).get("weights_sha256")
    if teacher and known and teacher.fingerprint() != known:
        return None, f"teacher.model {config.teacher.model} now has other weights than those the run was trained with"
    return teacher, ""


@contextmanager
def _remedied(data: str | None) -> Iterator[None]:
    """Add the remedy to errors of the run's own pairs."""
    try:
        yield
    except ValueError as error:
        remedy = "" if data or "--data" in str(error) else "; name the pairs with --data SPEC"
        raise ValueError(f"{error}{remedy}") from None


def _run_of(checkpoint: Path) -> RunDirectory | None:
    run = RunDirectory(checkpoint.parent.parent)
    return run if run.exists else None


def _validation(config: RunConfig, source: str, is_run: bool) -> tuple[str, int]:
    """The SPEC of a run's validation pairs, and their number; 0 for all."""
    for split, spec, number in evaluated_splits(config.data) if is_run else ():
        if split == "validation":
            return spec, number
    raise no_held_out_pairs(source)


def _learned(objective: Objective, student: Clip, teacher: Teacher | None, checkpoint: Path) -> LearnedParts:
    learnt = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    load_weights(learnt, load_learned(checkpoint), str(checkpoint / TRAINING))
    return learnt
