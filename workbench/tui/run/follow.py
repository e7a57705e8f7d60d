"""One run, followed: its log is read as it grows, in pieces, into plain state."""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from workbench.events import (
    EvalDone,
    EvalStarted,
    Event,
    RunFinished,
    RunResumed,
    RunStarted,
    StepDone,
    Warned,
)
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import Past, lineage
from workbench.runs.liveness import RunStatus, run_status
from workbench.runs.log import tail_events
from workbench.views.curves import Trace

PIECE_BYTES = 128 * 1024
MOST_NOTES = 500
SPEED = ("pairs_per_s", "step_time_s", "peak_mb", "learning_rate", "grad_norm")

Name = tuple[str, str]  # a group of curves, and the curve


@dataclass
class RunHistory:
    """What a run has said so far: the curves by group and name, the newest evaluation of each split, and the rest.

    ``notes`` are all events that are no measurement, the newest last; ``num_notes_lost`` earlier ones are gone.
    """

    traces: dict[Name, Trace] = field(default_factory=dict)
    evaluations: dict[str, EvalDone] = field(default_factory=dict)
    notes: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_NOTES))
    num_notes_lost: int = 0
    num_skipped: int = 0
    started: RunStarted | None = None
    elapsed_s: float = 0.0

    def group(self, name: str) -> dict[str, Trace]:
        """The curves of a group by name, in the order of their first points."""
        return {curve: trace for (group, curve), trace in self.traces.items() if group == name and len(trace)}

    @property
    def splits(self) -> list[str]:
        """The splits that were evaluated."""
        found = [group.partition("/")[2] for group, _ in self.traces if group.startswith("metrics/")]
        return list(dict.fromkeys(found))

    def take(self, event: Event) -> None:
        """One event more."""
        if isinstance(event, StepDone):
            self._take_step(event)
        elif isinstance(event, EvalDone):
            self.evaluations[event.split] = event
            for name, value in event.metrics.items():
                self._add(f"metrics/{event.split}", name, event.step, value)
        elif not isinstance(event, EvalStarted):
            if isinstance(event, RunStarted):
                self.started = event
            if isinstance(event, RunResumed):
                self._go_back(event.step)
            self.num_notes_lost += len(self.notes) == MOST_NOTES
            self.notes.append(event)

    def _take_step(self, event: StepDone) -> None:
        self.elapsed_s = event.elapsed_s
        self._add("loss", "total", event.step, event.loss)
        groups = {
            "loss": event.weighted,
            "unweighted": event.terms,
            "scales": event.scales,
            "masks": event.masks,
            "speed": {name: float(getattr(event, name)) for name in SPEED},
        }
        for group, values in groups.items():
            for name, value in values.items():
                self._add(group, name, event.step, value)

    def _add(self, group: str, name: str, step: int, value: float) -> None:
        self.traces.setdefault((group, name), Trace()).add(step, self.elapsed_s, value)

    def _go_back(self, step: int) -> None:
        for trace in self.traces.values():
            trace.cut(step)
        self.evaluations = {split: event for split, event in self.evaluations.items() if event.step <= step}


class RunFollower:
    """Follows one run directory; :meth:`poll` reads what is new.

    A run that is removed leaves what was read, with ``problem`` saying so; one that is replaced is read anew.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._begin()

    def _begin(self) -> None:
        self.story = RunHistory()
        self.status: RunStatus | None = None
        self.problem = ""
        self.is_removed = False
        self.num_polls = 0  # that brought something
        self._pasts: list[Past] = []
        self._offset = 0
        self._identity: tuple[int, int] | None = None

    @property
    def share_read(self) -> float:
        """How much of the log has been read, from 0 to 1; the parents of a fork count as unread until they are done."""
        if len(self._pasts) > 1:
            return 0.0
        return min(1.0, self._offset / size) if (size := _size(self.run.events_file)) else 1.0

    def poll(self, budget_s: float = 0.04) -> bool:
        """Reads on for about ``budget_s`` seconds; whether there is more to read at once."""
        try:
            self.is_removed = not self.run.exists
            if self.is_removed:
                self.problem = "this run has been removed; what is shown was read before"
                return False
            if self._was_replaced():
                self._begin()
            self.status = run_status(self.run)
            if not self._pasts:
                self._pasts = lineage(self.run)
                self._identity = _identity(self.run.events_file)
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return False
        self.problem = ""
        return self._read_on(time.perf_counter() + budget_s)

    def _read_on(self, until: float) -> bool:
        while True:
            past = self._pasts[0]
            try:
                events, offset, num_skipped = tail_events(past.run.events_file, self._offset, max_bytes=PIECE_BYTES)
            except ValueError as error:
                self.problem = str(error)
                return False
            is_own = past.run == self.run
            for event in events:
                if is_own or (event.step <= past.until_step and not isinstance(event, RunFinished)):
                    self.story.take(event)
            self.story.num_skipped += num_skipped
            self.num_polls += bool(events)
            is_done = offset == self._offset
            self._offset = offset
            if is_done and is_own:
                return False
            if is_done:
                del self._pasts[0]
                self._offset = 0
            if time.perf_counter() > until:
                return True

    def _was_replaced(self) -> bool:
        identity = _identity(self.run.events_file)
        if self._identity is None or identity is None:
            return False
        is_own = len(self._pasts) == 1
        return identity != self._identity or (is_own and _size(self.run.events_file) < self._offset)

    @property
    def warnings(self) -> list[Warned]:
        """What the run warned of, the newest last."""
        return [event for event in self.story.notes if isinstance(event, Warned)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
