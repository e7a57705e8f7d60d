"""Reads a run incrementally: its growing log into curves and events, and its snapshots."""

import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from workbench.events import EvalDone, EvalStarted, Event, RunFinished, RunResumed, RunStarted, StepDone, Warned
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import RunStatus, run_status
from workbench.runs.log import Past, lineage, tail_events
from workbench.runs.snapshots import Gradients, MaskSnapshot, Probe, read_snapshot_history
from workbench.views.curves import Trace
from workbench.views.gradients import GradientsView, gradients_view
from workbench.views.masks import MaskTimeline, mask_timeline

PIECE_BYTES = 128 * 1024
MOST_NOTES = 500
SPEED = ("pairs_per_s", "step_time_s", "peak_mb", "learning_rate", "grad_norm")

Name = tuple[str, str]  # a group of curves such as "loss", and the curve


@dataclass
class RunHistory:
    """What a run has logged so far: its curves by group and name, the newest evaluation of each split, and its notes.

    ``notes`` are the events that are not measurements, oldest first; ``num_notes_lost`` older ones were dropped.
    """

    traces: dict[Name, Trace] = field(default_factory=dict)
    evaluations: dict[str, EvalDone] = field(default_factory=dict)
    notes: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_NOTES))
    num_notes_lost: int = 0
    num_skipped: int = 0
    elapsed_s: float = 0.0
    batch_size: int = 1

    def group(self, name: str) -> dict[str, Trace]:
        """The non-empty curves of a group by name, ordered by their first point."""
        return {curve: trace for (group, curve), trace in self.traces.items() if group == name and len(trace)}

    @property
    def log_every_s(self) -> float | None:
        """Seconds of training between the last two logged steps; None before the second."""
        total = self.traces.get(("loss", "total"))
        return float(total.elapsed_s[-1] - total.elapsed_s[-2]) if total is not None and len(total) > 1 else None

    @property
    def splits(self) -> list[str]:
        """The evaluated splits."""
        found = [group.partition("/")[2] for group, _ in self.traces if group.startswith("metrics/")]
        return list(dict.fromkeys(found))

    def take(self, event: Event) -> None:
        """Add one event."""
        if isinstance(event, StepDone):
            self._take_step(event)
        elif isinstance(event, EvalDone):
            self.evaluations[event.split] = event
            for name, value in event.metrics.items():
                self._add(f"metrics/{event.split}", name, event.step, value)
        elif not isinstance(event, EvalStarted):
            if isinstance(event, RunResumed):
                self._rewind(event.step)
            if isinstance(event, RunStarted):
                self.batch_size = event.batch_size
            self.num_notes_lost += len(self.notes) == MOST_NOTES
            self.notes.append(event)

    def _take_step(self, event: StepDone) -> None:
        self.elapsed_s = event.elapsed_s
        self._add("loss", "total", event.step, event.loss)
        self._add("clock", "time_s", event.step, event.time_s)
        groups = {
            "loss": event.weighted,
            "unweighted": event.terms,
            "scales": event.scales,
            "masks": event.masks,
            "bias": {} if event.bias is None else {"student": event.bias},
            "speed": {name: float(getattr(event, name)) for name in SPEED},
        }
        for group, values in groups.items():
            for name, value in values.items():
                self._add(group, name, event.step, value)

    def _add(self, group: str, name: str, step: int, value: float) -> None:
        self.traces.setdefault((group, name), Trace()).add(step, self.elapsed_s, value)

    def _rewind(self, step: int) -> None:
        # A resumed run starts at a checkpoint: what it logged after that step happens again.
        for trace in self.traces.values():
            trace.cut(step)
        self.evaluations = {split: event for split, event in self.evaluations.items() if event.step <= step}


class RunFollower:
    """Follows one run directory; :meth:`poll` reads what is new.

    A removed run keeps the history that was read, and sets ``problem``. A replaced run is read from the start.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._reset()

    def _reset(self) -> None:
        self.history = RunHistory()
        self.status: RunStatus | None = None
        self.problem = ""
        self.is_removed = False
        self.num_polls = 0  # polls that read at least one event: views compare it to see whether to redraw
        self._pasts: list[Past] = []
        self._offset = 0
        self._identity: tuple[int, int] | None = None

    @property
    def share_read(self) -> float:
        """The fraction of the log that was read; 0 while the logs of a fork's parents are being read."""
        if len(self._pasts) > 1:
            return 0.0
        stat = _stat(self.run.events_file)
        return min(1.0, self._offset / stat.st_size) if stat and stat.st_size else 1.0

    def poll(self, budget_s: float = 0.04) -> bool:
        """Read for about ``budget_s`` seconds; return whether there is more to read now."""
        try:
            self.is_removed = not self.run.exists
            if self.is_removed:
                self.problem = "this run has been removed; the data shown were read before"
                return False
            if self._was_replaced():
                self._reset()
            self.status = run_status(self.run)
            if not self._pasts:
                self._pasts = lineage(self.run)
                stat = _stat(self.run.events_file)
                self._identity = (stat.st_dev, stat.st_ino) if stat else None
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return False
        self.problem = ""
        return self._read_on(time.perf_counter() + budget_s)

    def _read_on(self, until: float) -> bool:
        # A fork's history starts with its parents' logs, oldest first, each up to the step of the next fork.
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
                    self.history.take(event)
            self.history.num_skipped += num_skipped
            self.num_polls += bool(events)
            is_done = offset == self._offset  # no complete line left; a torn last line is read once it is complete
            self._offset = offset
            if is_done and is_own:
                return False
            if is_done:
                del self._pasts[0]
                self._offset = 0
            if time.perf_counter() > until:
                return True

    def _was_replaced(self) -> bool:
        # A run with the same name but another inode, or a log shorter than what was read, is a different run.
        stat = _stat(self.run.events_file)
        if self._identity is None or stat is None:
            return False
        is_own = len(self._pasts) == 1
        return (stat.st_dev, stat.st_ino) != self._identity or (is_own and stat.st_size < self._offset)

    @property
    def warnings(self) -> list[Warned]:
        """The run's warnings, oldest first."""
        return [event for event in self.history.notes if isinstance(event, Warned)]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


@dataclass
class SnapshotReader:
    """The contents of a run's ``snapshots/``. :meth:`read` may take seconds if there are thousands."""

    run: RunDirectory
    gradients: GradientsView | None = None
    masks: tuple[MaskSnapshot, ...] = ()
    timeline: MaskTimeline | None = None
    probes: tuple[Probe, ...] = ()
    num_readings: int = 0
    _seen: frozenset[str] | None = None

    def is_stale(self) -> bool:
        """Whether the files differ from those at the last :meth:`read`."""
        return _names(self.run) != self._seen

    def read(self) -> None:
        """Read all snapshots."""
        seen = _names(self.run)
        try:
            gradients, masks = read_snapshot_history(self.run, Gradients), read_snapshot_history(self.run, MaskSnapshot)
            probes = read_snapshot_history(self.run, Probe)
        except (OSError, ValueError):  # the run is being removed or is unreadable, which RunFollower reports
            return
        self._seen = seen
        self.gradients = gradients_view(gradients.snapshots) if gradients.snapshots else None
        self.masks, self.probes = tuple(masks.snapshots), tuple(probes.snapshots)
        self.timeline = mask_timeline(self.masks) if len(self.masks) > 1 else None
        self.num_readings += 1  # last, because this runs in a thread and the screen redraws when the count changes

    def mask_at(self, step: float | None) -> int | None:
        """The index of the newest mask at or before ``step``, or of the newest one for None."""
        if not self.masks:
            return None
        if step is None:
            return len(self.masks) - 1
        return max(0, sum(mask.step <= step for mask in self.masks) - 1)


def _names(run: RunDirectory) -> frozenset[str]:
    try:
        return frozenset(os.listdir(run.snapshots))  # noqa: PTH208 - names suffice, and are read every few seconds
    except OSError:
        return frozenset()
