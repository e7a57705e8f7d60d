"""Evaluate an existing model (a run, one of its checkpoints, or any SPEC), and publish a run as a model folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from workbench.config.run import RunConfig
from workbench.config.teacher import TeacherConfig
from workbench.config.toml import load_run_config
from workbench.data.spec import evaluated_splits, no_held_out_pairs
from workbench.engine.build import grouped, learned_widths, load_teacher, make_evaluator, make_objective
from workbench.engine.checkpoint import TRAINING, load_learned
from workbench.engine.device import resolve_device
from workbench.engine.evaluate import Evaluator, Measured
from workbench.evaluation.chance import beats_chance, mean_recall
from workbench.events import StepDone
from workbench.files import new_folder
from workbench.losses.base import Loss
from workbench.losses.learned import LearnedParts
from workbench.losses.objective import Objective
from workbench.models.clip import Clip, count_parameters
from workbench.models.folder import load_folder, save_folder
from workbench.models.names import find_folder
from workbench.models.spec import load_model, load_student
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers
from workbench.models.weights import load_weights
from workbench.progress import phase
from workbench.runs.checkpoints import read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history


class Source(NamedTuple):
    """A model to evaluate, and the run that it was trained in, if any."""

    name: str
    student: Clip
    device: torch.device
    config: RunConfig  # the defaults without a run
    run: RunDirectory | None
    checkpoint: Path | None


def open_source(source: str, runs_dir: Path) -> Source:
    """The model at a run's id or directory (its newest checkpoint), a checkpoint folder, or a model SPEC.

    Raises:
        ValueError: there is no model.
    """
    folder = find_folder(source, runs_dir)
    checkpoint = folder.absolute() if folder and (folder / TRAINING).is_file() else None
    directory = RunDirectory(checkpoint.parent.parent) if checkpoint else None
    run = directory if directory and directory.exists else None
    config = load_run_config(run.config_file) if run else RunConfig()
    device = resolve_device(config.train.device if run else "auto")
    with phase(f"loading {source}"):
        student = load_student(source, runs_dir).to(device)
    return Source(source, student, device, config, run, checkpoint)


def open_pairs(
    model: Source,
    data: str | None,
    num_pairs: int | None,
    *,
    teacher: Teachers | None = None,
    block_size: int | None = None,
) -> Evaluator:
    """The evaluator of the pairs of ``data``, as for :func:`remeasure`."""
    with _remedied(data):
        spec, default = (data, 0) if data else _validation(model.config, model.name, bool(model.run))
        number = default if num_pairs is None else num_pairs
        prepare = model.config.data.prepare
        return make_evaluator(
            model.config, spec, "validation", number, teacher, model.device, prepare=prepare, block_size=block_size
        )


def remeasure(
    source: str,
    data: str | None,
    *,
    num_pairs: int | None = None,
    block_size: int | None = None,
    teacher: str = "",
    runs_dir: Path = Path("runs"),
) -> Measured:
    """All metrics of the model at ``source`` on the pairs of the SPEC ``data``.

    A run whose teacher or loss file is missing is evaluated without agreement with the teacher; the notes say why.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint folder, or a model SPEC.
        data: None takes the run's validation pairs.
        num_pairs: the first ones, at most; 0 for all. None takes as many validation pairs as the run does, and all of
            any other ``data``.
        teacher: SPEC of the model to agree with; by default the run's teacher.

    Raises:
        ValueError: there is no model at ``source``, or no pairs.
    """
    model = open_source(source, runs_dir)
    own, missing = find_teacher(model, teacher, runs_dir)
    evaluator = open_pairs(model, data, num_pairs, teacher=own, block_size=block_size)
    notes = (f"agreement with the teacher is left out: {missing}",) if missing else ()
    learned, losses = (None, {}) if missing else learned_parts(model, own, is_own=not teacher)
    return replace(evaluator.measure(model.student, learned, losses), notes=notes)


def find_teacher(model: Source, spec: str, runs_dir: Path) -> tuple[Teachers | None, str]:
    """The model that ``spec`` names, or by default the run's teacher; None with the reason if the latter is missing.

    Raises:
        ValueError: the SPEC names no model.
    """
    if spec:
        config = TeacherConfig(model=spec)
        members = []
        for one, _ in config.teachers:
            with phase(f"loading the teacher, {one}"):
                members.append(Teacher(load_model(one, runs_dir=runs_dir).to(model.device)))
        return grouped(members, config), ""
    if model.run and model.checkpoint:
        return _teacher(model.run, model.config, model.device, model.checkpoint)
    return None, ""


def learned_parts(
    model: Source, teacher: Teachers | None, *, is_own: bool
) -> tuple[LearnedParts | None, dict[str, Loss]]:
    """The learned parts of a run's losses, and its losses; none for a model without a run, or with another teacher.

    Args:
        is_own: whether it is known to be the run's own teacher.
    """
    if model.run is None or model.checkpoint is None:
        return None, {}
    known = read_manifest(model.checkpoint).get("teacher", {}).get("weights_sha256")
    # A projection maps to the space of the teacher that it was trained with.
    if not is_own and not (teacher and known == teacher.fingerprint()):
        return None, {}
    objective = make_objective(model.config, teacher)
    return _learned(objective, model.student, teacher, model.checkpoint).to(model.device), objective.losses


def _teacher(
    run: RunDirectory, config: RunConfig, device: torch.device, checkpoint: Path
) -> tuple[Teachers | None, str]:
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


def _validation(config: RunConfig, source: str, is_run: bool) -> tuple[str, int]:
    """The SPEC of a run's validation pairs, and their number; 0 for all."""
    for split, spec, number in evaluated_splits(config.data) if is_run else ():
        if split == "validation":
            return spec, number
    raise no_held_out_pairs(source)


def _learned(objective: Objective, student: Clip, teacher: Teachers | None, checkpoint: Path) -> LearnedParts:
    learned = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    load_weights(learned, load_learned(checkpoint), str(checkpoint / TRAINING))
    return learned


METRICS, LOG, CONFIG = "metrics.json", "log.jsonl", "run.toml"
NUM_LOGGED = 100  # steps of the thinned log, about


def publish_teacher(run: RunDirectory, folder: Path) -> dict[str, Any]:
    """Write the run's model to ``folder`` in half precision, and evaluate what was written.

    The folder also has ``metrics.json`` (measured after rounding), ``run.toml`` and a thinned ``log.jsonl``.

    Returns:
        the content of ``metrics.json``.

    Raises:
        ValueError: the run has no checkpoint, or names no held-out pairs.
        OSError: the folder is not empty, cannot be written, or the disk is full; nothing is left of it.
    """
    config = load_run_config(run.config_file)
    steps = read_history(run, (StepDone,)).events
    thinned = steps[:: max(1, len(steps) // NUM_LOGGED)]
    with new_folder(folder) as building:
        save_folder(load_model(f"run:{run.path}"), building, torch.float16)
        document = measure_teacher(building, config)
        texts = {
            METRICS: json.dumps(document, indent=2) + "\n",
            CONFIG: run.config_file.read_text(encoding="utf-8"),
            LOG: "".join(step.to_line() + "\n" for step in thinned),
        }
        for name, text in texts.items():
            (building / name).write_text(text, encoding="utf-8")
    return document


def measure_teacher(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Size and metrics of the model in ``folder`` on the splits that its config evaluates.

    ``at_chance`` names the splits on which it is no better than chance.
    """
    device = resolve_device(config.train.device)
    teacher_model = load_folder(folder).to(device)
    sizes = count_parameters(teacher_model)
    teacher = Teacher(teacher_model)
    document: dict[str, Any] = {"num_params": sizes, "weights_sha256": teacher.fingerprint(), "at_chance": []}
    for split, spec, number in evaluated_splits(config.data):
        evaluator = make_evaluator(config, spec, split, number, teacher, device)
        measured = evaluator.measure_teacher()
        document[split] = {
            "data": spec,
            "num_pairs": measured.num_pairs,
            "metrics": measured.metrics,
            "errors": measured.errors,
            "chance": measured.chance,
        }
        recall, chance = mean_recall(measured.metrics), mean_recall(evaluator.constant_baseline())
        if beats_chance(recall, chance, measured.num_pairs) is False:
            document["at_chance"].append(split)
    return document
