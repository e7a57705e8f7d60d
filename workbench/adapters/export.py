"""Copy a run's log to another tool: once or until the run ends, in this process or a separate one."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from workbench.adapters.sink import PROJECT, Sink, scalars
from workbench.errors import unknown
from workbench.events import Event, RunResumed
from workbench.process import ERROR_PREFIX, BackgroundProcess, start_background
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.runs.log import effective_events, lineage, read_history, tail_events

TOOLS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "trackio": "trackio"}


def check_tool(tool: str) -> None:
    """Check that a tool is known and installed, without importing it.

    Raises:
        ValueError: it is not; with the nearest name, or the command to install it.
    """
    if tool not in TOOLS:
        raise unknown("tool", tool, TOOLS)
    spec = find_spec(tool)
    if spec is None or spec.origin is None:  # a folder of the tool's name, such as its own output, has no origin
        raise ValueError(f"{TOOLS[tool]} is not installed: pip install '{PROJECT}[{tool}]'")


def open_sink(tool: str, run: RunDirectory, folder: Path) -> Sink:
    """Start a new copy of the run in a tool, under ``folder``; imports the tool."""
    match tool:
        case "tensorboard":
            from workbench.adapters.tensorboard import TensorBoardSink

            return TensorBoardSink(run, folder)
        case "wandb":
            from workbench.adapters.wandb import WandbSink

            return WandbSink(run, folder)
        case "trackio":
            from workbench.adapters.trackio import TrackioSink

            return TrackioSink(run, folder)
    raise AssertionError(tool)


def export_command(run: RunDirectory, tool: str) -> str:
    """The command that copies the run again."""
    return f"workbench runs export {shlex.quote(str(run.path))} --to {tool}"


LOG_POLL_S = 1.0


class Exported(NamedTuple):
    """Result of an export: number of logged events, the last step, and the command to see it."""

    num_moments: int
    step: int
    next: str


def export(run: RunDirectory, open_sink: Callable[[], Sink], *, follows: bool = False) -> Exported:
    """Write the run's scalars to a sink: those logged so far, or with ``follows`` until the run ends.

    A resumed run discards steps after its checkpoint; if these were exported already, the export restarts with a new
    sink. A fork starts with the history that it shares with its parent.

    Raises:
        ValueError: the run's folder is gone.
        Exception: any error of the tool.
    """
    sink: Sink | None = None
    num_moments = step = 0
    try:
        for restarts, events in _batches(run, follows):
            if sink is None or restarts:
                if sink is not None:
                    sink.close("running")
                sink, num_moments, step = open_sink(), 0, 0
            for event in events:
                if values := scalars(event):
                    sink.write(event.step, event.time_s, values)
                    num_moments, step = num_moments + 1, event.step
            sink.flush()
        assert sink is not None
        sink.close(run_status(run).state)
    except BaseException:
        with suppress(Exception):  # closing may fail too; report the first error
            if sink is not None:
                sink.close("running")
        raise
    return Exported(num_moments, step, sink.next)


def _batches(run: RunDirectory, follows: bool) -> Iterator[tuple[bool, list[Event]]]:
    """Batches of new events, each with whether it replaces all batches before it."""
    offset, is_first = 0, True
    while True:
        if not run.exists:
            raise ValueError(f"run {run.id} is gone from {run.path.parent}")
        # Before reading: a run that ends in between has its last events in the next batch.
        is_last = not follows or run_status(run).state not in TAKES_COMMANDS
        events, end, _ = tail_events(run.events_file, offset)
        # A shorter file is another log. A resumed run repeats steps, which sinks cannot take back.
        restarts = not is_first and (end < offset or any(isinstance(event, RunResumed) for event in events))
        if restarts:
            events, end, _ = tail_events(run.events_file, 0)
        past = _past(run) if is_first or restarts else []
        yield restarts, past + effective_events(events)
        if is_last:
            return
        offset, is_first = end, False
        time.sleep(LOG_POLL_S)


def _past(run: RunDirectory) -> list[Event]:
    """The parent's events up to the fork; empty if the run is not a fork."""
    *ancestors, _ = lineage(run)
    if not ancestors:
        return []
    parent = ancestors[-1]
    return [event for event in read_history(parent.run).events if event.step <= parent.until_step]


RUN_POLL_S = 0.1


@dataclass(frozen=True)
class ExportProcess:
    """A process that exports ``run`` to ``tool`` and ends when the run ends."""

    run: RunDirectory
    tool: str
    process: BackgroundProcess

    def outcome(self, wait_s: float) -> str:
        """The result as one line, once the run is over; waits at most ``wait_s`` seconds for the process."""
        deadline_s = time.monotonic() + wait_s
        while self.process.is_alive and time.monotonic() < deadline_s:
            time.sleep(RUN_POLL_S)
        if self.process.is_alive:
            return f"{self.tool} is still writing, as process {self.process.pid}: see {self.process.output}"
        last = self.process.last_line
        if last.startswith((f"{self.run.id} is in ", ERROR_PREFIX)):
            return last
        return f"{self.tool} was killed; the run is not affected; retry with: {export_command(self.run, self.tool)}"


def start_export(run: RunDirectory, tool: str) -> ExportProcess:
    """Start to export a run that is about to train.

    Raises:
        ValueError: the process cannot be started.
    """
    follow = ["runs", "export", str(run.path), "--to", tool, "--follow"]
    return ExportProcess(run, tool, start_background(follow, run.path / f"{tool}.log"))
