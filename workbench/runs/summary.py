"""``summary.json``: what came out of a run, computed from its log."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from workbench.events import CheckpointSaved, EvalDone, Event, RunFinished, RunStarted, StageStarted, StepDone
from workbench.files import write_atomically
from workbench.reading import read_file
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import read_history
from workbench.runs.liveness import State, run_status
from workbench.runs.log import last_events

MOST_BYTES = 2**20
SIZED = (RunStarted, StageStarted)  # events that say how large the student is


class Summary(BaseModel):
    """A run in one document. ``errors`` are standard errors; without an evaluation both are empty.

    A run whose files cannot be read is ``unreadable``, and its ``reason`` says why.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    id: str
    dir: str
    state: State | Literal["unreadable"]
    num_steps: int
    step: int
    metrics: dict[str, float]
    """Those of the last evaluation on "validation", or on any split where that one was never evaluated."""
    errors: dict[str, float]
    test_metrics: dict[str, float]
    test_errors: dict[str, float]
    chance: dict[str, float] = {}
    """What a random answer is expected to score on the pairs of ``metrics``, by metric name."""
    teacher_metrics: dict[str, float] = {}
    """The teacher's recall on the same pairs; empty without a teacher."""
    test_chance: dict[str, float] = {}
    test_teacher_metrics: dict[str, float] = {}
    weights_sha256: str
    """Of the last checkpoint; empty before the first."""
    kept_fraction: float = 1.0
    """Share of the attention and FFN weights of its source that an inherited student has; 1 for any other."""
    elapsed_s: float
    reason: str

    def to_document(self) -> dict[str, Any]:
        """For ``--json``: plain values, with non-finite numbers as strings."""
        document: dict[str, Any] = from_json(self.model_dump_json())
        return document


def summarise(run: RunDirectory) -> Summary:
    """The summary as the log has it now, also of a run that is still going.

    Raises:
        UnreadableError: the log cannot be read within bounds.
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
    """Writes ``summary.json``.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(run.summary_file, summarise(run).model_dump_json(indent=2) + "\n")


def read_summary(run: RunDirectory) -> Summary:
    """``summary.json`` where the run has left one that can be read, else what the log says now.

    Raises:
        UnreadableError: the log cannot be read within bounds.
    """
    try:
        found = Summary.model_validate_json(read_file(run.summary_file, MOST_BYTES))
    except (FileNotFoundError, ValueError):
        return summarise(run)
    return found.model_copy(update={"id": run.id, "dir": str(run.path)})  # it may have been moved since


def summary_or_reason(run: RunDirectory, *, from_log: bool = False) -> Summary:
    """The summary of one run among many: of one that cannot be read, the reason.

    Args:
        from_log: whether to read the log, whatever ``summary.json`` says.
    """
    try:
        return summarise(run) if from_log else read_summary(run)
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
