"""Files and folders that are whole or absent: written under a temporary name in the same folder, synced, renamed.

A temporary name says which process writes it, so that what a killed one left is told from what another is writing, and
is cleared by the next process that writes to that folder.
"""

import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.process import started_at, this_host

TEMPORARY = ".tmp-"
REPLACED = ".old-"
LOCK = "lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_NAME = 50  # characters of a file's name in its temporary one
OTHERS_AGE_S = 86_400.0  # after which a temporary file of an unknown process or another machine counts as abandoned
ASIDE_AGE_S = 60.0  # replacing a folder takes two renames, one right after the other

_WRITER = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>[0-9a-f]{8})-[0-9a-f]{8}")


class DiskFullError(OSError):
    """There is no room left for about ``num_bytes`` at ``path``."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        super().__init__(f"disk full at {path}: needs about {size_text(num_bytes)}, has {size_text(free_bytes(path))}")
        self.errno = errno.ENOSPC
        self.path, self.num_bytes = path, num_bytes


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds ``path``, or would if it were made."""
    return shutil.disk_usage(_nearest(path)).free


def is_writable(folder: Path) -> bool:
    """Whether something can be written into the folder, or the folder be made."""
    nearest = _nearest(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def size_text(num_bytes: float) -> str:
    """Bytes as people say them: 1.2 GB, 34.5 MB, 6.7 kB."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:,.1f} GB"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _nearest(path: Path) -> Path:
    """The path itself, or the first of its parents that exists."""
    path = path.absolute()
    # Path.exists raises where one may not look.
    return next(place for place in (path, *path.parents) if os.access(place, os.F_OK))


def why_not_written(error: OSError) -> str:
    """An error of writing as the clause of a line for people: what went wrong, and with which file."""
    if isinstance(error, DiskFullError):
        return str(error)
    reason = "disk full" if error.errno in FULL else error.strerror or str(error)
    return reason if error.filename is None else f"{reason}: {error.filename}"


@contextmanager
def explained(place: Path, remedy: str) -> Iterator[None]:
    """Turns an error of writing to ``place`` into one line with the remedy.

    Raises:
        ValueError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        room = "make room there, or " if error.errno in FULL else ""
        raise ValueError(f"cannot write {place}: {why_not_written(error)}; {room}{remedy}") from None


def write_atomically(path: Path, data: bytes | str) -> None:
    """Puts ``data`` (text as UTF-8) at ``path``; see :func:`new_file`."""
    content = data.encode() if isinstance(data, str) else data
    with new_file(path, num_bytes=len(content)) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)


@contextmanager
def new_file(path: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """``with new_file(path) as temporary``: what is written to ``temporary`` stands at ``path`` afterwards.

    A kill at any moment leaves the old file or the new one. A symbolic link is followed.

    Args:
        num_bytes: about how many will be written, for the error where there is no room.

    Raises:
        DiskFullError: there is no room; the old file is intact.
        OSError: the folder is missing or cannot be written; the old file is intact.
    """
    target = path.resolve()
    _sweep_once(target.parent)
    temporary = temporary_beside(target)
    with _removed_on_error(temporary, path, num_bytes):
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    _sync(target.parent)


@contextmanager
def new_folder(path: Path, *, num_bytes: int = 0, replace: bool = False) -> Iterator[Path]:
    """``with new_folder(path) as folder``: an empty folder to be filled, which stands at ``path`` afterwards.

    Missing parents are made. What dead processes left beside ``path`` is cleared first. A kill at any moment leaves no
    folder or a whole one; an error leaves nothing.

    Args:
        num_bytes: about how many will be written, for the error where there is no room.
        replace: an older folder makes way; otherwise only an empty one does.

    Raises:
        FileExistsError: ``path`` holds something and ``replace`` is False.
        DiskFullError: there is no room.
        OSError: a parent cannot be made or written.
    """
    target = path.resolve()
    with _new_parents(target):
        sweep(target.parent)
        temporary = temporary_beside(target)
        with _removed_on_error(temporary, path, num_bytes):
            temporary.mkdir()
            yield temporary
            commit_folder(temporary, target, replace=replace)


@contextmanager
def _removed_on_error(temporary: Path, path: Path, num_bytes: int) -> Iterator[None]:
    """Removes what was half written, and then counts the room that there is."""
    try:
        yield
    except BaseException as error:
        written = _num_bytes(temporary)
        remove(temporary)
        if isinstance(error, OSError) and error.errno in FULL:
            missing = error.num_bytes if isinstance(error, DiskFullError) else 0
            raise DiskFullError(path, max(num_bytes, written + missing)) from None
        raise


@contextmanager
def _new_parents(path: Path) -> Iterator[None]:
    """Makes the folders that lead to ``path``, and on an error removes those that were missing before."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise


def _num_bytes(path: Path) -> int:
    with suppress(OSError):
        return sum(file.lstat().st_size for file in (path, *path.rglob("*")) if not file.is_dir())
    return 0


def _sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def commit_folder(temporary: Path, final: Path, *, replace: bool = True) -> None:
    """Renames a finished folder into place, with everything in it on disk first.

    Where ``final`` exists it is set aside, and removed once the new one stands. A kill between the two
    renames leaves it aside: ``sweep`` puts it back, so that after the next start there is the old
    folder or the new one.

    Raises:
        FileExistsError: ``final`` is there already and ``replace`` is False.
        OSError: the rename failed; the old folder, if any, is in its place.
    """
    for folder, _, names in os.walk(temporary):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not final.exists():
            raise
        if not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
        _swap_in(temporary, final)
    _sync(final.parent)
    remove(_aside(final))


def _swap_in(temporary: Path, final: Path) -> None:
    aside = _aside(final)
    remove(aside)
    final.rename(aside)
    try:
        temporary.rename(final)
    except BaseException:
        aside.rename(final)
        raise


def _aside(final: Path) -> Path:
    return final.with_name(f"{REPLACED}{final.name}")


def temporary_beside(path: Path) -> Path:
    """A fresh name in the same folder that :func:`sweep` will clear once this process is dead."""
    pid = os.getpid()
    writer = f"{_host_digest()}-{pid}-{_start_digest(pid)}-{secrets.token_hex(4)}"
    return path.with_name(f"{TEMPORARY}{path.name[:MAX_NAME]}.{writer}")


@functools.cache
def _host_digest() -> str:
    """Of this machine, or of this container where processes are numbered apart."""
    with suppress(OSError):
        return _digest(f"{this_host()} {Path('/proc/self/ns/pid').readlink()}")
    return _digest(this_host())


def _start_digest(pid: int) -> str:
    """Of a running process's start; empty where none has this id."""
    started = started_at(pid)
    return "" if started is None else _digest(started)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sweep(folder: Path, *, is_ours: bool = False) -> list[str]:
    """Clears what dead writers left in ``folder``, and returns the names that were cleared or put back.

    Nothing is cleared that a living process of this machine writes, and nothing younger than a day whose writer cannot
    be asked.

    Args:
        is_ours: nobody else writes there, as under a run's lock: everything temporary is cleared.
    """
    with suppress(OSError):
        entries = [entry for entry in sorted(folder.iterdir()) if entry.name.startswith((TEMPORARY, REPLACED))]
        return [entry.name for entry in entries if _is_cleared(entry, is_ours)]
    return []


def _is_cleared(entry: Path, is_ours: bool) -> bool:
    if entry.name.startswith(TEMPORARY):
        if not (is_ours or _is_abandoned(entry)):
            return False
        remove(entry)
        return True
    if not is_ours and _age_s(entry) < ASIDE_AGE_S:
        return False
    final = entry.with_name(entry.name.removeprefix(REPLACED))
    if final.exists():
        remove(entry)
    else:
        entry.rename(final)
    return True


@functools.lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _is_abandoned(temporary: Path) -> bool:
    writer = _WRITER.search(temporary.name)
    if writer and writer["host"] == _host_digest():
        return _start_digest(int(writer["pid"])) != writer["started"]
    return _age_s(temporary) > OTHERS_AGE_S


def _age_s(path: Path) -> float:
    """Seconds since the last change of a file, or of a folder or anything in it; -1 of one that is gone."""
    try:
        changed = [file.lstat().st_ctime for file in (path, *path.rglob("*"))]
    except OSError:  # its writer has just renamed it into place
        return -1.0
    return time.time() - max(changed)


def remove(path: Path) -> None:
    """Removes a file or a whole folder; a missing one is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of a folder, which ends with the process; waits for whoever has it, saying what that one does."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"workbench: waiting for another process that {doing}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: both then write, and the last one's stays
            pass
        yield
    finally:
        os.close(descriptor)
