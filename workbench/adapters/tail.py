"""A run's log -> a sink: all of it, and what is added until the run ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from workbench.adapters.scalars import scalars
from workbench.adapters.sink import Sink
from workbench.events import Event, RunResumed
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import lineage, read_history
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.runs.log import effective_events, tail_events

POLL_S = 1.0


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
        time.sleep(POLL_S)


def _past(run: RunDirectory) -> list[Event]:
    """What the run's parent did up to the fork; nothing for a run that began by itself."""
    *ancestors, _ = lineage(run)
    if not ancestors:
        return []
    parent = ancestors[-1]
    return [event for event in read_history(parent.run).events if event.step <= parent.until_step]
