"""A run's log copied to another tool, in a process of its own that follows the run until it ends."""

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
from workbench.process import COMPLAINS, BackgroundProcess, start_background
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import lineage, read_history
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.runs.log import effective_events, tail_events

# The tools by name.

TOOLS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "trackio": "trackio"}


def check_tool(tool: str) -> None:
    """Whether a tool is known and installed, without importing it.

    Raises:
        ValueError: it is not; in one line with the nearest name, or what to install.
    """
    if tool not in TOOLS:
        raise unknown("tool", tool, TOOLS)
    spec = find_spec(tool)
    if spec is None or spec.origin is None:  # a folder of the tool's name, such as its own output, has no origin
        raise ValueError(f"{TOOLS[tool]} is not installed: pip install '{PROJECT}[{tool}]'")


def open_sink(tool: str, run: RunDirectory, folder: Path) -> Sink:
    """A fresh copy of the run in a tool, under ``folder``; the tool is imported now."""
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
    """How to copy the run again, whatever became of the first time."""
    return f"workbench runs export {shlex.quote(str(run.path))} --to {tool}"


# A run's log -> a sink: all of it, and what is added until the run ends.

LOG_POLL_S = 1.0


class Exported(NamedTuple):
    """What was handed over: how many moments, up to which step, and what to do next."""

    num_moments: int
    step: int
    next: str


def export(run: RunDirectory, open_sink: Callable[[], Sink], *, follows: bool = False) -> Exported:
    """Hands the run's numbers to a sink, as far as they go now, or until the run ends.

    Steps that a resumed run took back are left out; where they were handed over already, a fresh sink begins anew.
    A fork begins with the past that it shares.

    Raises:
        ValueError: the run's folder is gone.
        Exception: whatever the tool raises.
    """
    sink: Sink | None = None
    num_moments = step = 0
    try:
        for is_anew, events in _batches(run, follows):
            if sink is None or is_anew:
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
        with suppress(Exception):  # it may fail again at what is left to write; the first failure is the one to tell
            if sink is not None:
                sink.close("running")
        raise
    return Exported(num_moments, step, sink.next)


def _batches(run: RunDirectory, follows: bool) -> Iterator[tuple[bool, list[Event]]]:
    """The events that hold, as they come, and whether those of earlier batches no longer do."""
    offset, is_first = 0, True
    while True:
        if not run.exists:
            raise ValueError(f"run {run.id} is gone from {run.path.parent}")
        # Asked before reading, so that the last batch has the last event.
        is_last = not follows or run_status(run).state not in TAKES_COMMANDS
        events, end, _ = tail_events(run.events_file, offset)
        is_anew = not is_first and (end < offset or any(isinstance(event, RunResumed) for event in events))
        if is_anew:
            events, end, _ = tail_events(run.events_file, 0)
        past = _past(run) if is_first or is_anew else []
        yield is_anew, past + effective_events(events)
        if is_last:
            return
        offset, is_first = end, False
        time.sleep(LOG_POLL_S)


def _past(run: RunDirectory) -> list[Event]:
    """What the run's parent did up to the fork; nothing for a run that began by itself."""
    *ancestors, _ = lineage(run)
    if not ancestors:
        return []
    parent = ancestors[-1]
    return [event for event in read_history(parent.run).events if event.step <= parent.until_step]


# Handing a run over while it trains, from a process apart: whatever becomes of that one, the run does not notice.

RUN_POLL_S = 0.1


@dataclass(frozen=True)
class ExportProcess:
    """A process that follows ``run`` for ``tool`` and ends when the run ends."""

    run: RunDirectory
    tool: str
    apart: BackgroundProcess

    def last_words(self, wait_s: float) -> str:
        """What it has to say now that the run is over, for which it is given ``wait_s`` seconds."""
        deadline_s = time.monotonic() + wait_s
        while self.apart.is_alive and time.monotonic() < deadline_s:
            time.sleep(RUN_POLL_S)
        if self.apart.is_alive:
            return f"{self.tool} is still writing, as process {self.apart.pid}: see {self.apart.output}"
        last = self.apart.last_line
        if last.startswith((f"{self.run.id} is in ", COMPLAINS)):
            return last
        return f"{self.tool} was killed; the run is untouched; once more with: {export_command(self.run, self.tool)}"


def start_export(run: RunDirectory, tool: str) -> ExportProcess:
    """Starts to follow a run that is about to train.

    Raises:
        ValueError: the process cannot be started.
    """
    follow = ["runs", "export", str(run.path), "--to", tool, "--follow"]
    return ExportProcess(run, tool, start_background(follow, run.path / f"{tool}.log"))
