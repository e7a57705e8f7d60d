"""The summary of a run, and finding studies and their runs in a runs folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tomli_w
from pydantic import BaseModel, ConfigDict

from workbench.config.steering import Origin, read_origin
from workbench.config.study import QUICK, QUICK_STEPS, CellConfig, Study, load_stored_study, load_study, studies
from workbench.config.toml import read_toml
from workbench.documents import read_file, strict_numbers
from workbench.errors import unknown
from workbench.events import CheckpointSaved, EvalDone, Event, RunFinished, RunStarted, StageStarted, StepDone
from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.liveness import State, run_status
from workbench.runs.log import last_events, read_history

MOST_BYTES = 2**20
SIZED = (RunStarted, StageStarted)  # events with the size of the student


class Summary(BaseModel):
    """The results of a run, computed from its log: ``summary.json``.

    ``errors`` are standard errors; without an evaluation, metrics and errors are empty. A run whose files cannot be
    read has state ``unreadable`` and a ``reason``.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    id: str
    dir: str
    state: State | Literal["unreadable"]
    num_steps: int
    step: int
    metrics: dict[str, float]
    """Of the last evaluation on "validation", or on any split if validation was never evaluated."""
    errors: dict[str, float]
    test_metrics: dict[str, float]
    test_errors: dict[str, float]
    chance: dict[str, float] = {}
    """Expected scores of a random ranking on the same pairs, by metric name."""
    teacher_metrics: dict[str, float] = {}
    """Recall of the teacher on the same pairs; empty without a teacher."""
    test_chance: dict[str, float] = {}
    test_teacher_metrics: dict[str, float] = {}
    weights_sha256: str
    """Hash of the last checkpoint's weights; empty before the first."""
    kept_fraction: float = 1.0
    """Fraction of its source's attention and FFN weights that an inherited student has; 1 for other students."""
    elapsed_s: float
    reason: str

    def to_document(self) -> dict[str, Any]:
        """The document of ``--json``: non-finite numbers are strings."""
        # Not model_dump_json: it fails on paths that are not UTF-8.
        document: dict[str, Any] = strict_numbers(self.model_dump(mode="json"))
        return document


def summarize(run: RunDirectory) -> Summary:
    """The summary computed from the log, also for a running run.

    Raises:
        UnreadableError: the log or ``run.toml`` cannot be read.
    """
    events = read_history(run, (EvalDone, CheckpointSaved, RunFinished, *SIZED)).events
    sizes = [event.kept_fraction for event in events if isinstance(event, SIZED)]
    evaluations = [event for event in events if isinstance(event, EvalDone)]
    tests = [event for event in evaluations if event.split == "test"]
    shown = [event for event in evaluations if event.split == "validation"] or evaluations
    checkpoints = [event for event in events if isinstance(event, CheckpointSaved)]
    ends = [event for event in events if isinstance(event, RunFinished)]
    status = run_status(run)
    return Summary(
        id=run.id,
        dir=str(run.path),
        state=status.state,
        num_steps=status.num_steps,
        step=status.step,
        metrics=shown[-1].metrics if shown else {},
        errors=shown[-1].errors if shown else {},
        test_metrics=tests[-1].metrics if tests else {},
        test_errors=tests[-1].errors if tests else {},
        chance=shown[-1].chance if shown else {},
        teacher_metrics=shown[-1].teacher if shown else {},
        test_chance=tests[-1].chance if tests else {},
        test_teacher_metrics=tests[-1].teacher if tests else {},
        weights_sha256=checkpoints[-1].weights_sha256 if checkpoints else "",
        kept_fraction=sizes[-1] if sizes else 1.0,
        elapsed_s=_elapsed_s([*last_events(run.events_file), *ends]),
        reason=ends[-1].reason if ends else "",
    )


def _elapsed_s(events: list[Event]) -> float:
    times_s = [event.elapsed_s for event in events if isinstance(event, StepDone | RunFinished)]
    return times_s[-1] if times_s else 0.0


def write_summary(run: RunDirectory) -> None:
    """Write ``summary.json``.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(run.summary_file, json.dumps(summarize(run).to_document(), indent=2) + "\n")


def read_summary(run: RunDirectory) -> Summary:
    """``summary.json`` if it can be read and agrees with the log, else the summary computed from the log.

    Raises:
        UnreadableError: the log or ``run.toml`` cannot be read.
    """
    status = run_status(run)
    try:
        found = Summary.model_validate_json(read_file(run.summary_file, MOST_BYTES))
    except (FileNotFoundError, ValueError):
        return summarize(run)
    if (found.state, found.step, found.num_steps) != (status.state, status.step, status.num_steps):
        return summarize(run)  # the log was damaged or replaced since; the dashboard and reports read only the log
    return found.model_copy(update={"id": run.id, "dir": str(run.path)})  # the run may have been moved since


def summary_or_reason(run: RunDirectory, *, from_log: bool = False) -> Summary:
    """The summary of a run, with state ``unreadable`` instead of an exception.

    Args:
        from_log: compute it from the log, ignoring ``summary.json``.
    """
    try:
        return summarize(run) if from_log else read_summary(run)
    except (OSError, ValueError) as error:
        return Summary(
            id=run.id,
            dir=str(run.path),
            state="unreadable",
            num_steps=0,
            step=0,
            metrics={},
            errors={},
            test_metrics={},
            test_errors={},
            weights_sha256="",
            elapsed_s=0.0,
            reason=str(error),
        )


FOLDER = "studies"  # in the runs folder: databases, and copies of the studies that were run


class Found(NamedTuple):
    """A study found by name.

    Attributes:
        source: the name or file to load it by; for a rehearsal, that of the study.
        has_file: False if its file is gone and it was reconstructed from its runs, without question, baseline and
            published figures.
    """

    study: Study
    source: str
    has_file: bool = True


@dataclass(frozen=True)
class StudyRun:
    """A run and its origin in a study."""

    run: RunDirectory
    origin: Origin


def find_study(name_or_file: str, runs_dir: Path) -> Found:
    """The study of this name: from a file in the working directory or ``./studies``, a shipped study, the copy that its
    sweep left in the runs folder, or reconstructed from its runs.

    Raises:
        ValueError: there is none, or its file is invalid; in one line with the remedy.
    """
    own = name_or_file.removesuffix(QUICK)
    if name_or_file.endswith(".toml") or {name_or_file, own} & studies().keys():
        return Found(*load_stored_study(name_or_file))
    if kept := _from_copy(name_or_file, runs_dir):
        return kept
    if found := counted(runs_of_study(runs_dir, name_or_file)):
        return Found(_from_runs(name_or_file, found), name_or_file, has_file=False)
    raise unknown("study", name_or_file, known_studies(runs_dir))


def find_trainable(name_or_file: str, runs_dir: Path) -> Study:
    """:func:`find_study` for studies with a file; one reconstructed from its runs cannot be trained further.

    A rehearsal has its own name, with the suffix, so that its runs do not mix with those of its study.

    Raises:
        ValueError: as :func:`find_study`, or there is no file.
    """
    found = find_study(name_or_file, runs_dir)
    if not found.has_file:
        raise ValueError(f"{runs_dir} has runs of study '{name_or_file}', but its file was not found: name FILE.toml")
    is_rehearsal = found.source != name_or_file
    return found.study.model_copy(update={"name": name_or_file}) if is_rehearsal else found.study


def known_studies(runs_dir: Path) -> list[str]:
    """Names that :func:`find_study` accepts, without rehearsals and the parts of a search."""
    files = (runs_dir / FOLDER).glob("*.toml")
    copies = {path.stem.removesuffix(QUICK) if _is_rehearsal(path) else path.stem for path in files}
    known = {*studies(), *copies}
    alone = [name for name in studies_with_runs(runs_dir) if not any(name.startswith(f"{one}-") for one in known)]
    found = [*known, *(name for name in alone if not any(name.startswith(f"{other}-") for other in alone))]
    return sorted({name for name in found if name.removesuffix(QUICK) == name or name.removesuffix(QUICK) not in known})


def copy_of(name: str, runs_dir: Path) -> Path:
    """Path of the copy of a study that its sweep saves."""
    return runs_dir / FOLDER / f"{name}.toml"


def save_copy(study: Study, name: str, runs_dir: Path) -> None:
    """Save a copy of the study in the runs folder, so that it is found without its own file.

    Raises:
        OSError: it cannot be written.
    """
    table = study.model_copy(update={"name": name}).model_dump(mode="json", exclude_none=True)
    file = copy_of(name, runs_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, tomli_w.dumps(table))


def _from_copy(name: str, runs_dir: Path) -> Found | None:
    """The study (or its rehearsal) of this name from a copy in the runs folder; None if there is none.

    If only the rehearsal has a copy, the study is the rehearsal, which is no file to train the study from.
    """
    own = name.removesuffix(QUICK)
    copy, quick = copy_of(name, runs_dir), copy_of(own + QUICK, runs_dir)
    if copy.is_file() and not _is_rehearsal(copy):
        return Found(load_study(str(copy)), name)
    if _is_rehearsal(quick):
        found = load_study(str(quick)).model_copy(update={"name": own})
        return Found(found, own, has_file=name != own)
    if copy_of(own, runs_dir).is_file():
        return Found(load_study(str(copy_of(own, runs_dir))).quick(), own)
    return None


def _is_rehearsal(copy: Path) -> bool:
    """Whether a copy is that of a rehearsal, and not of a study whose own name has the suffix."""
    try:
        return copy.stem.endswith(QUICK) and read_toml(copy).get("steps") == QUICK_STEPS
    except ValueError:
        return False


def _from_runs(name: str, found: "list[StudyRun]") -> Study:
    """A study reconstructed from its runs."""
    cells = {one.origin.cell: CellConfig(name=one.origin.cell, settings=one.origin.values) for one in found}
    seeds = {one.origin.seed for one in found}
    recipe = str(read_toml(found[0].run.config_file).get("recipe", "baseline"))
    return Study(name=name, question="", recipe=recipe, cells=list(cells.values()), seeds=len(seeds))


def runs_of_study(runs_dir: Path, study: str) -> list[StudyRun]:
    """All runs of the study, sorted by cell, seed and attempt; unreadable ``run.toml`` files are skipped.

    A cell and seed may have several attempts; those before the last were abandoned.
    """
    found = [one for one in _runs_of_studies(runs_dir) if one.origin.study == study]
    return sorted(found, key=lambda one: (one.origin.trial, one.origin.seed, one.origin.attempt))


def studies_with_runs(runs_dir: Path) -> list[str]:
    """Names of the studies with runs in the folder."""
    return sorted({one.origin.study for one in _runs_of_studies(runs_dir)})


def _runs_of_studies(runs_dir: Path) -> Iterator[StudyRun]:
    for run in list_runs(runs_dir):
        try:
            origin = read_origin(run.config_file)
        except ValueError:
            continue
        if origin is not None:
            yield StudyRun(run, origin)


def counted(found: list[StudyRun]) -> list[StudyRun]:
    """One run per cell and seed: the last attempt, which is the one that its trial records."""
    return list({(one.origin.cell, one.origin.seed): one for one in found}.values())
