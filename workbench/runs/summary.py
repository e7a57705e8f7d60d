"""The summary of a run, recording a training loop's events in its log and summary, and loading what was recorded."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.documents import read_file, strict_numbers
from workbench.errors import print_error
from workbench.events import (
    DENSE,
    CheckpointSaved,
    EvalDone,
    Event,
    RunFinished,
    RunResumed,
    RunStarted,
    StageStarted,
    StepDone,
    Warned,
)
from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import State, run_status
from workbench.runs.log import EventLog, last_events, read_history
from workbench.runs.suites import SuiteResult, read_results

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
    num_steps: int = 0
    step: int = 0
    metrics: dict[str, float] = {}
    """Of the last evaluation on "validation", or on any split if validation was never evaluated."""
    errors: dict[str, float] = {}
    test_metrics: dict[str, float] = {}
    test_errors: dict[str, float] = {}
    chance: dict[str, float] = {}
    """Expected scores of a random ranking on the same pairs, by metric name."""
    teacher_metrics: dict[str, float] = {}
    """Recall of the teacher on the same pairs; empty without a teacher."""
    test_chance: dict[str, float] = {}
    test_teacher_metrics: dict[str, float] = {}
    weights_sha256: str = ""
    """Hash of the last checkpoint's weights; empty before the first."""
    kept_fraction: float = 1.0
    """Fraction of its source's attention and FFN weights that an inherited student has; 1 for other students."""
    suites: list[SuiteResult] = []
    """Results of ``evaluate --suite``."""
    elapsed_s: float = 0.0
    reason: str = ""

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
    measured = [event for event in events if isinstance(event, EvalDone)]
    evaluations = [event for event in measured if event.split != DENSE]
    dense = next((event.metrics for event in reversed(measured) if event.split == DENSE), {})
    tests = [event for event in evaluations if event.split == "test"]
    validations = [event for event in evaluations if event.split == "validation"] or evaluations
    none = EvalDone(run=run.id, step=0, split="", num_pairs=0, metrics={}, elapsed_s=0.0)
    shown, test = [none, *validations][-1], [none, *tests][-1]
    timed = [event for event in (*last_events(run.events_file), *events) if isinstance(event, StepDone | RunFinished)]
    checkpoints = [event for event in events if isinstance(event, CheckpointSaved)]
    ends = [event for event in events if isinstance(event, RunFinished)]
    status = run_status(run)
    return Summary(
        id=run.id,
        dir=str(run.path),
        state=status.state,
        num_steps=status.num_steps,
        step=status.step,
        metrics=shown.metrics | dense,
        errors=shown.errors,
        test_metrics=test.metrics | dense if test.metrics else {},
        test_errors=test.errors,
        chance=shown.chance,
        teacher_metrics=shown.teacher,
        test_chance=test.chance,
        test_teacher_metrics=test.teacher,
        weights_sha256=checkpoints[-1].weights_sha256 if checkpoints else "",
        kept_fraction=sizes[-1] if sizes else 1.0,
        suites=read_results(run.suites),
        elapsed_s=timed[-1].elapsed_s if timed else 0.0,
        reason=ends[-1].reason if ends else "",
    )


def write_summary(run: RunDirectory) -> None:
    """Write ``summary.json``."""
    write_atomically(run.summary_file, json.dumps(summarize(run).to_document(), indent=2) + "\n")


def read_summary(run: RunDirectory) -> Summary:
    """``summary.json`` if it can be read and agrees with the log, else the summary computed from the log.

    Raises:
        UnreadableError: the log or ``run.toml`` cannot be read.
    """
    status = run_status(run)
    try:
        summary = Summary.model_validate_json(read_file(run.summary_file, MOST_BYTES))
    except (FileNotFoundError, ValueError):
        return summarize(run)
    if (summary.state, summary.step, summary.num_steps) != (status.state, status.step, status.num_steps):
        return summarize(run)  # the log was damaged or replaced since; the dashboard and reports read only the log
    return summary.model_copy(update={"id": run.id, "dir": str(run.path)})  # the run may have been moved since


def summary_or_reason(run: RunDirectory, *, from_log: bool = False) -> Summary:
    """The summary of a run, with state ``unreadable`` instead of an exception.

    Args:
        from_log: compute it from the log, ignoring ``summary.json``.
    """
    try:
        return summarize(run) if from_log else read_summary(run)
    except (OSError, ValueError) as error:
        return Summary(id=run.id, dir=str(run.path), state="unreadable", reason=str(error))


def record(events: Iterable[Event], directories: Mapping[str, RunDirectory]) -> Iterator[Event]:
    """Yield every event after appending it to the log of its run, named by ``event.run``.

    A RunFinished also writes ``summary.json``, and a RunResumed removes it. A full or failing disk is reported once
    per run on stderr and does not stop training: lost events are counted, and a Warned event gives their number once
    the log can be written again.
    """
    recorders: dict[str, _Recorder] = {}
    try:
        for event in events:
            if event.run not in recorders:
                recorders[event.run] = _Recorder(directories[event.run])
            recorders[event.run].write(event)
            yield event
    finally:
        for recorder in recorders.values():
            recorder.close()


class _Recorder:
    """The log of one run; tolerates disk errors."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._log: EventLog | None = None
        self._num_lost = 0
        self._has_warned = False

    def write(self, event: Event) -> None:
        try:
            self._append(event)
        except OSError as error:
            self._num_lost += 1
            self._warn(error)
            return
        try:
            if isinstance(event, RunResumed):
                self.run.summary_file.unlink(missing_ok=True)
            if isinstance(event, RunFinished):
                write_summary(self.run)
        except OSError as error:
            self._warn(error)

    def _append(self, event: Event) -> None:
        if self._log is None:
            self._log = EventLog(self.run.events_file)
        if self._num_lost:
            lost = f"{self._num_lost} events are missing before this one: the log could not be written"
            self._log.append(Warned(run=event.run, step=event.step, message=lost))
            self._num_lost = 0
        self._log.append(event)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned and self.run.path.exists():  # if the folder is gone, the run itself fails
            message = f"warning: {self.run.path}: {error.strerror or error}; training continues, its log has gaps"
            print_error(message)
        self._has_warned = True

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


@dataclass(frozen=True, repr=False)
class RunRecord:
    """A run on disk: its config, its events, and their summary."""

    directory: RunDirectory
    config: RunConfig
    events: list[Event]
    summary: Summary

    def __repr__(self) -> str:
        """One line, since all events would fill a notebook."""
        end = self.summary
        return f"<run {end.id}: {end.state} at step {end.step} of {end.num_steps}, {len(self.events):,} events>"


def load_run(run: str | Path, runs_dir: Path = Path("runs")) -> RunRecord:
    """The record of a run, by id or directory, running or ended.

    Raises:
        ValueError: there is no such run; names the nearest id.
    """
    directory = find_run(runs_dir, run)
    events = read_history(directory).events
    return RunRecord(directory, load_run_config(directory.config_file), events, summarize(directory))
