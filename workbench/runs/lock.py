"""One writer a run: a lock that ends with its process, and a note beside it of whose it is."""

import errno
import fcntl
import os
import time
from types import TracebackType

from pydantic import BaseModel, ConfigDict

from workbench.files import FULL, sweep, write_atomically
from workbench.process import boot_id, started_at, this_host
from workbench.reading import read_file
from workbench.runs.directory import RunDirectory
from workbench.runs.log import quiet_s

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
