"""The runs of a folder with their status and metrics: cheap to poll every second, with logs read in pieces."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.events import EvalDone, RunResumed, StepDone
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.liveness import TAKES_COMMANDS, RunStatus, run_status
from workbench.runs.log import last_events, tail_events
from workbench.tui.text import is_quiet

if TYPE_CHECKING:
    from workbench.config.study import Origin
    from workbench.views.curves import Trace

PIECE_BYTES = 1024 * 1024
MOST_POINTS = 64  # of a sparkline
FIRST_SPLIT = "validation"


@dataclass(eq=False)
class Row:
    """One run: its status, pace, and metrics over evaluations on validation, or on the newest split without one."""

    run: RunDirectory
    status: RunStatus | None = None
    loss: float | None = None
    step_time_s: float | None = None
    log_every_s: float | None = None  # between its last two StepDone
    problem: str = ""
    origin: "Origin | None" = None
    settings: dict[str, Any] = field(default_factory=dict)  # by dotted name
    metrics: "dict[str, Trace]" = field(default_factory=dict)
    age: int = 0  # rank by creation time, 0 for the newest
    version: int = 0  # increases with every change
    _offset: int = 0
    _split: str = ""
    _seen: object = None  # of its files, at the last update
    _has_origin: bool = False

    @property
    def state(self) -> str:
        """The state of the run; empty before it is known."""
        return self.status.state if self.status else ""

    @property
    def is_live(self) -> bool:
        """Whether the run takes commands: it runs, or is about to."""
        return self.state in TAKES_COMMANDS

    @property
    def share(self) -> float | None:
        """The fraction of its steps that is done; None if unknown."""
        return self.status.step / self.status.num_steps if self.status and self.status.num_steps else None

    @property
    def left_s(self) -> float | None:
        """Seconds of training left at the latest step time; None if unknown."""
        status = self.status
        if status is None or not self.is_live or self.step_time_s is None or not status.num_steps:
            return None
        return max(0, status.num_steps - status.step) * self.step_time_s

    @property
    def is_quiet(self) -> bool:
        """Whether a live run has logged nothing for longer than usual."""
        return self.status is not None and is_quiet(self.status, self.log_every_s)

    def update_status(self) -> None:
        """Update status and pace. An ended run that has not changed since costs two ``stat`` calls."""
        try:
            stat = self.run.events_file.stat()
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, self.run.owner_file.exists())
            if seen == self._seen and not self.is_live:
                return
            if stat.st_size < self._offset:
                # The log was replaced by a shorter one.
                self._offset, self._split, self.metrics, self._has_origin = 0, "", {}, False
            self.status = run_status(self.run)
            steps = [event for event in last_events(self.run.events_file, StepDone) if isinstance(event, StepDone)]
            if steps:
                self.loss, self.step_time_s = steps[-1].loss, steps[-1].step_time_s
            if len(steps) > 1:
                self.log_every_s = max(0.0, steps[-1].time_s - steps[-2].time_s)
            self._seen = seen
            self.problem = ""
        except (OSError, ValueError) as error:
            self.problem = getattr(error, "strerror", None) or str(error)
        self.version += 1

    def read_on(self) -> bool:
        """Read another piece of the log for its evaluations; return whether there is more."""
        if not self._has_origin:
            self._has_origin = True
            self._read_settings()
        try:
            events, offset, _ = tail_events(
                self.run.events_file, self._offset, (EvalDone, RunResumed), max_bytes=PIECE_BYTES
            )
        except ValueError as error:
            self.problem = str(error)
            return False
        for event in events:
            if isinstance(event, RunResumed):
                for trace in self.metrics.values():
                    trace.cut(event.step)
            elif isinstance(event, EvalDone):
                self._take_evaluation(event)
        has_more = offset != self._offset
        self._offset = offset
        self.version += bool(events)
        return has_more

    def _read_settings(self) -> None:
        # Slow to import: not before the first screen is drawn.
        from workbench.config.study import Origin, flat
        from workbench.config.toml import read_toml

        try:
            table = read_toml(self.run.config_file)
            sweep = table.pop("sweep", None)
            self.origin = None if sweep is None else Origin.parse(sweep)
            self.settings = flat(table)
        except ValueError as error:
            self.problem = str(error)

    def _take_evaluation(self, event: EvalDone) -> None:
        from workbench.views.curves import Trace

        # Values of different splits must not mix in one sparkline: validation wins over any other split.
        if event.split != self._split:
            if self._split == FIRST_SPLIT:
                return
            self._split, self.metrics = event.split, {}
        for name, value in event.metrics.items():
            self.metrics.setdefault(name, Trace(MOST_POINTS)).add(event.step, 0.0, value)


class Board:
    """The runs of a folder by id. ``problem`` is the error if the folder is unreadable, else empty."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.rows: dict[str, Row] = {}
        self.problem = ""
        self._unread: list[Row] = []
        self._named: tuple[str, ...] = ()  # the runs that the names of settings were collected from
        self._setting_names: list[str] = []

    def poll(self, budget_s: float = 0.1) -> bool:
        """Update all runs and read their logs for about ``budget_s`` seconds; return whether there is more to read."""
        until = time.perf_counter() + budget_s
        try:
            runs = list_runs(self.runs_dir)
            self.problem = ""
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return False
        self.rows = {run.id: self.rows.get(run.id) or Row(run) for run in runs}
        num_unseen = 0
        for age, row in enumerate(self.rows.values()):
            row.age = age
            # New runs wait for the next poll once the budget is used; known ones are always updated, as it is cheap.
            if row.status is None and not row.problem and time.perf_counter() > until:
                num_unseen += 1
                continue
            version = row.version
            row.update_status()
            if row.version != version and row not in self._unread:
                self._unread.append(row)
        self._unread = [row for row in self._unread if self.rows.get(row.run.id) is row]
        while self._unread and time.perf_counter() < until:
            if not self._unread[0].read_on():
                del self._unread[0]
        return bool(self._unread) or num_unseen > 0

    @property
    def metric_names(self) -> list[str]:
        """The metrics of all runs."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row.metrics))

    @property
    def setting_names(self) -> list[str]:
        """The settings of all runs; first those in which runs differ."""
        rows = [row for row in self.rows.values() if row.settings]
        if (basis := tuple(row.run.id for row in rows)) != self._named:
            self._named = basis
            names = dict.fromkeys(name for row in rows for name in row.settings)
            differs = {name for name in names if len({str(row.settings.get(name)) for row in rows}) > 1}
            self._setting_names = sorted(names, key=lambda name: name not in differs)
        return self._setting_names
