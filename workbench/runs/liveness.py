"""How a run is: judged by its process on this host, and elsewhere by how long it has been silent."""

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from pydantic import BaseModel, ConfigDict

from workbench.documents import MOST_TOML_BYTES, parse_toml, read_file
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
from workbench.files import FULL, sweep, write_atomically
from workbench.process import boot_id, started_at, this_host
from workbench.runs.directory import RunDirectory
from workbench.runs.log import effective_events, first_events, last_events, quiet_s

# One writer a run: a lock that ends with its process, and a note beside it of whose it is.

SILENT_AFTER_S = 600.0
MOST_OWNER_BYTES = 64 * 1024


class Owner(BaseModel):
    """The process that writes to a run, or did so when it died."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    started: str  # see process.started_at
    boot: str  # see process.boot_id
    since_s: float

    def is_alive(self, run: RunDirectory) -> bool:
        """Whether it still runs: here its process says, and elsewhere that it spoke within ten minutes."""
        if self.host == this_host():
            return started_at(self.pid) == self.started
        held_s = abs(time.time() - self.since_s)  # a clock far ahead of ours must not keep a dead owner alive
        quiet = quiet_s(run.events_file)
        return min(held_s, held_s if quiet is None else quiet) < SILENT_AFTER_S

    @property
    def shares_our_locks(self) -> bool:
        """Whether one kernel's locks bind both it and us; another machine's may not reach this one."""
        return self.host == this_host() or (self.boot != "" and self.boot == boot_id())


def read_owner(run: RunDirectory) -> Owner | None:
    """Whoever holds the run's lock, or died holding it; None after an orderly end."""
    try:
        return Owner.model_validate_json(read_file(run.owner_file, MOST_OWNER_BYTES))
    except (FileNotFoundError, ValueError):
        return None


class RunLock:
    """Held, as a context manager, by the process that trains the run.

    The operating system drops it when the process dies, so a dead one's is simply taken over, and the files
    it left half-written are cleared.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._descriptor = -1

    def __enter__(self) -> "RunLock":
        """Takes the lock, at once.

        Raises:
            ValueError: another process holds it, and which, and what to do; or the run cannot be written to.
        """
        try:
            self._descriptor = os.open(self.run.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._take()
        except BaseException as error:
            self._forget()
            if isinstance(error, OSError):
                raise ValueError(_why_not(self.run, error)) from None
            raise
        os.register_at_fork(after_in_child=self._forget)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:  # else this is a forked child on its way out, and the run is not its own
            self.run.owner_file.unlink(missing_ok=True)
            self._forget()

    def _take(self) -> None:
        is_locked = True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(self.run, read_owner(self.run)) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            is_locked = False  # a file system without locks: the owner's note has to do
        previous = read_owner(self.run)
        if previous and not (is_locked and previous.shares_our_locks) and previous.is_alive(self.run):
            raise _taken(self.run, previous)
        for folder in (self.run.path, self.run.checkpoints, self.run.snapshots):
            sweep(folder, is_ours=True)
        write_atomically(self.run.owner_file, _this_process().model_dump_json())

    def _forget(self) -> None:
        """Closes this process's handle; so does a forked child, lest it hold the lock after its parent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _this_process() -> Owner:
    pid = os.getpid()
    started = started_at(pid)
    assert started is not None
    return Owner(host=this_host(), pid=pid, started=started, boot=boot_id(), since_s=time.time())


def _why_not(run: RunDirectory, error: OSError) -> str:
    remedy = (
        "make room there"
        if error.errno in FULL
        else "make it writable, or copy the run to another disk and go on there: workbench runs resume COPY"
    )
    return f"cannot write to run '{run.id}' in {run.path}: {(error.strerror or str(error)).lower()}; {remedy}"


def _taken(run: RunDirectory, owner: Owner | None) -> ValueError:
    if owner is None or not owner.is_alive(run):  # it is just coming or going, or a dead trainer left it behind
        return ValueError(
            f"run '{run.id}' is locked by a process that has not said who it is: try again in a moment, or end "
            f"the process that holds it open: fuser {run.lock_file}"
        )
    quiet = quiet_s(run.events_file)
    since = "no event yet" if quiet is None else f"last event {quiet:.0f} s ago"
    return ValueError(
        f"run '{run.id}' is being written by process {owner.pid} on {owner.host} ({since}): wait for "
        f"it, or stop it first: workbench runs stop {run.id}"
    )


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
