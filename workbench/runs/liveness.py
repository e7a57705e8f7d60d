"""The lock of a run, its state, and commands to it: small files in ``control/`` that the run reads in sending order."""

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workbench.documents import MOST_TOML_BYTES, parse_toml, read_file, read_part
from workbench.events import (
    Commanded,
    EvalStarted,
    Event,
    Forked,
    RunFinished,
    RunResumed,
    RunStarted,
    RunState,
)
from workbench.files import FULL, remove, sweep, write_atomically
from workbench.process import boot_id, started_at, this_host
from workbench.runs.directory import RunDirectory
from workbench.runs.log import effective_events, first_events, last_events, quiet_s

SILENT_AFTER_S = 600.0  # heartbeat timeout of a run on another host
MOST_OWNER_BYTES = 64 * 1024


class Owner(BaseModel):
    """The process that writes to a run, or did when it died."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    started: str  # see process.started_at
    boot: str  # see process.boot_id
    since_s: float

    def is_alive(self, run: RunDirectory) -> bool:
        """Whether the process runs: checked on this host; on others, whether the run logged within ten minutes."""
        if self.host == this_host():
            return started_at(self.pid) == self.started
        held_s = abs(time.time() - self.since_s)  # abs: a clock far ahead of ours must not keep a dead owner alive
        quiet = quiet_s(run.events_file)
        return min(held_s, held_s if quiet is None else quiet) < SILENT_AFTER_S

    @property
    def shares_our_locks(self) -> bool:
        """Whether its file locks are visible to this process: same host, or same kernel boot (containers)."""
        return self.host == this_host() or (self.boot != "" and self.boot == boot_id())


def read_owner(run: RunDirectory) -> Owner | None:
    """The process that holds the run's lock or died holding it; None after a clean exit."""
    try:
        return Owner.model_validate_json(read_file(run.owner_file, MOST_OWNER_BYTES))
    except (FileNotFoundError, ValueError):
        return None


class RunLock:
    """Context manager that locks a run for the process that trains it.

    The operating system releases the lock when the process dies; the next holder removes its temporary files.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._descriptor = -1

    def __enter__(self) -> "RunLock":
        """Take the lock without waiting.

        Raises:
            ValueError: another process holds it (with the remedy), or the run cannot be written to.
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

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:  # < 0 in a forked child, which does not own the run
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
            is_locked = False  # a file system without locks: rely on owner.json
        # Another machine's lock may be invisible here (e.g. NFS without lockd), so the owner's heartbeat counts, too.
        previous = read_owner(self.run)
        if previous and not (is_locked and previous.shares_our_locks) and previous.is_alive(self.run):
            raise _taken(self.run, previous)
        for folder in (self.run.path, self.run.checkpoints, self.run.snapshots):
            sweep(folder, is_ours=True)
        pid = os.getpid()
        started = started_at(pid)
        assert started is not None
        owner = Owner(host=this_host(), pid=pid, started=started, boot=boot_id(), since_s=time.time())
        write_atomically(self.run.owner_file, owner.model_dump_json())

    def _forget(self) -> None:
        """Close this process's handle. A forked child does so too, or it would hold the lock after its parent exits."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _why_not(run: RunDirectory, error: OSError) -> str:
    remedy = (
        "make room there"
        if error.errno in FULL
        else "make it writable, or copy the run to another disk and resume it there: workbench runs resume COPY"
    )
    return f"cannot write to run '{run.id}' in {run.path}: {(error.strerror or str(error)).lower()}; {remedy}"


def _taken(run: RunDirectory, owner: Owner | None) -> ValueError:
    if owner is None or not owner.is_alive(run):  # starting or exiting, or inherited by a child of a dead trainer
        return ValueError(
            f"run '{run.id}' is locked by an unknown process: try again in a moment, or find and end the process "
            f"that holds the lock: fuser {run.lock_file}"
        )
    quiet = quiet_s(run.events_file)
    # An event from before the owner started is of an earlier process.
    is_own = quiet is not None and quiet <= time.time() - owner.since_s
    since = f"last event {quiet:.0f} s ago" if is_own else "no event yet"
    return ValueError(
        f"run '{run.id}' is being written by process {owner.pid} on {owner.host} ({since}): wait for "
        f"it, or stop it first: workbench runs stop {run.id}"
    )


State = Literal[RunState, "new", "running", "paused", "silent", "dead"]
TAKES_COMMANDS = ("new", "running", "paused", "silent")


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    ``new`` has not started; ``running`` has a live process; ``paused`` has one that waits; ``silent`` is on another
    host and has logged nothing for ten minutes; ``dead`` lost its process and can be resumed; the others are final.
    """

    state: State
    step: int
    num_steps: int  # 0 while unknown
    quiet_s: float | None  # since the last event; None before the first
    recipe: str  # empty if unknown
    owner: Owner | None  # the process that writes, or died while writing
    evaluating: str = ""  # the split that a live run is evaluating; empty while it trains


def run_status(run: RunDirectory) -> RunStatus:
    """The current state of the run, in time independent of the log's length.

    Raises:
        UnreadableError: the log or ``run.toml`` is not a file that can be read.
    """
    first, last = first_events(run.events_file), last_events(run.events_file)
    own = [event for event in (*first, *last) if not isinstance(event, Forked)]  # Forked is written at creation
    starts = [event for event in own if isinstance(event, RunStarted)]
    owner = read_owner(run)
    quiet = quiet_s(run.events_file, last)
    state = _ending(run, last, owner) or _pausing(_going(run, own, owner, quiet), last)
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
    """The final state of the run, unless a process has resumed it since."""
    finished = [event for event in effective_events(last) if isinstance(event, RunFinished)]
    # A lock that was taken since then belongs to a process that resumes the run.
    if not finished or (owner and owner.since_s > finished[-1].time_s and owner.is_alive(run)):
        return None
    return finished[-1].state


def _going(run: RunDirectory, events: Sequence[Event], owner: Owner | None, quiet: float | None) -> State:
    """The state of a run that has not ended."""
    if owner and owner.is_alive(run):
        return "running" if events else "new"  # it loads data and models before its first event
    if owner is None and not events:
        return "new"
    hosts = [event.host for event in events if isinstance(event, RunStarted | RunResumed)]
    host = owner.host if owner else next(reversed(hosts), this_host())
    if host == this_host():
        return "dead"
    return "silent" if quiet is None or quiet >= SILENT_AFTER_S else "running"


def _pausing(state: State, last: list[Event]) -> State:
    """``paused`` for a running run whose last relevant event is a pause command; else ``state``."""
    commands = [event.command if isinstance(event, Commanded) else type(event).__name__ for event in last]
    relevant = [one for one in commands if one in ("pause", "continue", "StepDone", "RunResumed")]
    return "paused" if state == "running" and relevant[-1:] == ["pause"] else state


def _recipe(run: RunDirectory) -> str:
    try:
        content = read_part(run.config_file, 0, MOST_TOML_BYTES + 1)
    except FileNotFoundError:
        return ""
    if len(content) > MOST_TOML_BYTES:
        return ""
    try:
        text = content.decode()
        # Top-level keys precede the first table; parsing the rest would take five times as long.
        return str(parse_toml(text.partition("\n[")[0], run.id).get("recipe", ""))
    except ValueError:
        return ""


MAX_BYTES = 64 * 1024
POLL_S = (
    0.2  # seconds between two looks for commands, at most: an answer at once for a person, no cost for a short step
)


class Command(BaseModel):
    """A command to a run: ``stop``, ``checkpoint``, ``pause``, ``continue`` ...

    A file that is not a command has kind ``unreadable``, with its ``file`` and the ``reason`` as arguments.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    arguments: dict[str, Any] = {}


def send_command(run: RunDirectory, kind: str, **arguments: Any) -> None:
    """Queue a command for the run.

    Raises:
        ValueError: the run has ended, or the command cannot be written.
    """
    state = run_status(run).state
    if state not in TAKES_COMMANDS:
        resume = "" if state == "finished" else f"; to resume it: workbench runs resume {run.id}"
        raise ValueError(f"run '{run.id}' is {state}: there is no process to {kind}{resume}")
    command = Command(kind=kind, arguments=arguments)
    try:
        run.control.mkdir(exist_ok=True)
        # Later than every waiting command, so that name order is sending order even if the clock was set back.
        stamp = max([time.time_ns(), *(1 + _stamp(path.name) for path in run.control.iterdir())])
        write_atomically(run.control / f"{stamp:020d}-{secrets.token_hex(4)}.json", command.model_dump_json())
    except OSError as error:
        raise ValueError(f"cannot {kind} run '{run.id}': {error}") from None


def _stamp(name: str) -> int:
    """The time in a command's file name, ns; keeps the order even if the clock is set back."""
    digits = name.partition("-")[0]
    return int(digits) if len(digits) == 20 and digits.isdecimal() else 0


def take_commands(run: RunDirectory) -> list[Command]:
    """Read and remove the waiting commands, in the order they were sent. Takes microseconds if there are none.

    A resumed run discards commands left over from before.
    """
    try:
        waiting = sorted(path for path in run.control.iterdir() if not path.name.startswith("."))
    except OSError:  # polled again at the next step
        return []
    commands = [_take(path) for path in waiting]
    return [command for command in commands if command is not None]


def _take(path: Path) -> Command | None:
    content = b""
    try:
        is_file = stat.S_ISREG(path.lstat().st_mode)  # opening a pipe would block
        if is_file:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES)
        remove(path)
        return Command.model_validate_json(content)
    except FileNotFoundError:  # another reader took it first
        return None
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:
        reason = f"not a command: {content[:60]!r}" if is_file else "not a regular file"
    return Command(kind="unreadable", arguments={"file": path.name, "reason": reason})
