"""How a run is: judged by its process on this host, and elsewhere by how long it has been silent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.documents import MOST_TOML_BYTES, parse_toml
from workbench.events import (
    Commanded,
    EvalStarted,
    Event,
    Forked,
    RunFinished,
    RunResumed,
    RunStarted,
    RunState,
    StepDone,
)
from workbench.process import this_host
from workbench.reading import read_file
from workbench.runs.directory import RunDirectory
from workbench.runs.lock import SILENT_AFTER_S, Owner, read_owner
from workbench.runs.log import effective_events, first_events, last_events, quiet_s

State = Literal[RunState, "new", "running", "paused", "silent", "dead"]
TAKES_COMMANDS = ("new", "running", "paused", "silent")


@dataclass(frozen=True)
class RunStatus:
    """A glance at a run.

    ``new`` has not begun; ``running`` has a live process; ``paused`` has one that was told to wait; ``silent`` is on
    another host and has said nothing for ten minutes; ``dead`` lost its process without a word and can be resumed; the
    others are how it ended.
    """

    state: State
    step: int
    num_steps: int  # 0 while unknown
    quiet_s: float | None  # since the last event; None before the first
    recipe: str  # empty if unknown
    owner: Owner | None  # the process that writes, or died writing
    evaluating: str = ""  # the split that a live run is being measured on; empty while it trains


def run_status(run: RunDirectory) -> RunStatus:
    """How the run is now, in time that does not grow with its log."""
    first, last = first_events(run.events_file), last_events(run.events_file)
    said = [event for event in (*first, *last) if not isinstance(event, Forked)]  # which a fork begins with
    starts = [event for event in said if isinstance(event, RunStarted)]
    owner = read_owner(run)
    quiet = quiet_s(run.events_file, last)
    state = _ending(run, last, owner) or _pausing(_going(run, said, owner, quiet), last)
    return RunStatus(
        state=state,
        step=last[-1].step if last else 0,
        num_steps=starts[-1].num_steps if starts else 0,
        quiet_s=quiet,
        recipe=_recipe(run),
        owner=owner,
        evaluating=last[-1].split if state == "running" and last and isinstance(last[-1], EvalStarted) else "",
    )


def _ending(run: RunDirectory, last: list[Event], owner: Owner | None) -> State | None:
    """What the run said it ended as, unless a process has taken it up since."""
    finished = [event for event in effective_events(last) if isinstance(event, RunFinished)]
    if not finished or (owner and owner.since_s > finished[-1].time_s and owner.is_alive(run)):
        return None
    return finished[-1].state


def _going(run: RunDirectory, events: Sequence[Event], owner: Owner | None, quiet: float | None) -> State:
    """How a run is that has not ended."""
    if owner and owner.is_alive(run):
        return "running" if events else "new"
    if owner is None and not events:
        return "new"
    hosts = [event.host for event in events if isinstance(event, RunStarted | RunResumed)]
    host = owner.host if owner else next(reversed(hosts), this_host())
    if host == this_host():
        return "dead"
    return "silent" if quiet is None or quiet >= SILENT_AFTER_S else "running"


def _pausing(state: State, last: list[Event]) -> State:
    """The state of a run that goes on, unless the last that it said of it is that it waits."""
    words = [event for event in last if isinstance(event, StepDone | RunResumed) or _is_about_pausing(event)]
    is_paused = bool(words) and isinstance(words[-1], Commanded) and words[-1].command == "pause"
    return "paused" if is_paused and state == "running" else state


def _is_about_pausing(event: Event) -> bool:
    return isinstance(event, Commanded) and event.command in ("pause", "continue")


def _recipe(run: RunDirectory) -> str:
    try:
        text = read_file(run.config_file, MOST_TOML_BYTES).decode()
        # The run's own keys stand above the first table, and the rest is five times as long to parse.
        return str(parse_toml(text.partition("\n[")[0], run.id).get("recipe", ""))
    except (OSError, ValueError):
        return ""
