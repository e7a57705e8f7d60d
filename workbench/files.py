"""Atomic writes: files and folders are written under a temporary name in the same folder, synced, then renamed.

The temporary name holds the writer's process id and start time. So leftovers of a killed process are recognized, and
the next process that writes to the folder removes them.
"""

import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.formatting import size
from workbench.process import free_bytes, started_at, this_host

TEMPORARY = ".tmp-"
REPLACED = ".old-"
FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_NAME = 50  # characters of a file's name in its temporary one
OTHERS_AGE_S = 86_400.0  # then a temporary file of another machine's process counts as abandoned
ASIDE_AGE_S = 60.0  # far above the time between the two renames that replace a folder

_WRITER = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>[0-9a-f]{8})-[0-9a-f]{8}")


class DiskFullError(OSError):
    """The disk that holds ``path`` has no room for about ``num_bytes``; 0 if unknown."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        needed = f"needs about {size(num_bytes)}, " if num_bytes else ""
        super().__init__(f"disk full at {path}: {needed}has {size(free_bytes(path))}")
        self.errno = errno.ENOSPC
        self.path, self.num_bytes = path, num_bytes


def write_failure(error: OSError) -> str:
    """A write error as a clause for an error message: the reason and the file."""
    if isinstance(error, DiskFullError):
        return str(error)
    reason = "disk full" if error.errno in FULL else error.strerror or str(error)
    return reason if error.filename is None else f"{reason}: {error.filename}"


def resolved(path: Path) -> Path:
    """The absolute path with symbolic links followed; a link to itself stays as it is."""
    # Path.resolve() raises RuntimeError for a link to itself before Python 3.13.
    return Path(os.path.realpath(path))


@contextmanager
def explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn an OSError while writing to ``path`` into a ValueError of one line with the remedy."""
    try:
        yield
    except OSError as error:
        room = "make room there, or " if error.errno in FULL else ""
        raise ValueError(f"cannot write {path}: {write_failure(error)}; {room}{remedy}") from None


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) to ``path``; see :func:`new_file`."""
    content = data.encode() if isinstance(data, str) else data
    with new_file(path, num_bytes=len(content)) as temporary:
        # O_EXCL follows no link that someone may have put there.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)


@contextmanager
def new_file(path: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """``with new_file(path) as temporary``: write to ``temporary``; it is renamed to ``path`` at the end.

    A kill at any time leaves the old file or the new one. Symbolic links are followed.

    Args:
        num_bytes: expected size, for the error on a full disk.

    Raises:
        DiskFullError: no room; the old file is intact.
        OSError: the folder is missing or not writable; the old file is intact.
    """
    target = resolved(path)
    _sweep_once(target.parent)
    temporary = temporary_path(target)
    with _removed_on_error(temporary, path, num_bytes):
        yield temporary
        _sync(temporary)  # before the rename: else a power cut may leave an empty file under the final name
        temporary.replace(target)
    _sync(target.parent)


@contextmanager
def new_folder(path: Path, *, num_bytes: int = 0, replace: bool = False) -> Iterator[Path]:
    """``with new_folder(path) as folder``: fill the empty ``folder``; it is renamed to ``path`` at the end.

    Missing parents are created, and leftovers of dead processes next to ``path`` removed. A kill at any time leaves
    no folder or a complete one; an error leaves nothing.

    Args:
        num_bytes: expected size, for the error on a full disk.
        replace: replace an existing folder; without it, only an empty one is replaced.

    Raises:
        FileExistsError: ``path`` is not empty and ``replace`` is False.
        DiskFullError: no room.
        OSError: a parent cannot be created or written.
    """
    target = resolved(path)
    with _new_parents(target):
        sweep(target.parent)
        temporary = temporary_path(target)
        with _removed_on_error(temporary, path, num_bytes):
            temporary.mkdir()
            yield temporary
            commit_folder(temporary, target, replace=replace)


@contextmanager
def _removed_on_error(temporary: Path, path: Path, num_bytes: int) -> Iterator[None]:
    """On an error, remove the partial file or folder; a full disk becomes a DiskFullError."""
    try:
        yield
    except BaseException as error:  # also an interrupt from the keyboard
        written = _num_bytes(temporary)  # before it is removed: the size that did not fit
        remove(temporary)
        if isinstance(error, OSError) and error.errno in FULL:
            missing = error.num_bytes if isinstance(error, DiskFullError) else 0
            raise DiskFullError(path, max(num_bytes, written + missing)) from None
        raise


@contextmanager
def _new_parents(path: Path) -> Iterator[None]:
    """Create the parents of ``path``; on an error, remove those that were missing."""
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
    """fsync a file, or a folder's list of names, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def commit_folder(temporary: Path, final: Path, *, replace: bool = True) -> None:
    """Sync a finished folder and rename it to ``final``.

    An existing ``final`` is first renamed to a backup, which is removed at the end. After a kill between the two
    renames only the backup exists; the next :func:`sweep` restores it.

    Raises:
        FileExistsError: ``final`` exists and ``replace`` is False.
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
    # rename() cannot replace a folder that is not empty.
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


def temporary_path(path: Path) -> Path:
    """A new temporary name in the folder of ``path``; :func:`sweep` removes it once this process is dead."""
    pid = os.getpid()
    writer = f"{_host_digest()}-{pid}-{_start_digest(pid)}-{secrets.token_hex(4)}"
    return path.with_name(f"{TEMPORARY}{path.name[:MAX_NAME]}.{writer}")


@functools.cache
def _host_digest() -> str:
    """Identifies this machine and process namespace: containers number their processes separately."""
    with suppress(OSError):
        return _digest(f"{this_host()} {Path('/proc/self/ns/pid').readlink()}")
    return _digest(this_host())


def _start_digest(pid: int) -> str:
    """Identifies the start of process ``pid``, since ids are reused; empty if it is not running."""
    started = started_at(pid)
    return "" if started is None else _digest(started)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sweep(folder: Path, *, is_ours: bool = False) -> list[str]:
    """Remove or restore what dead writers left in ``folder``; returns the affected names.

    Temporary files of running processes on this machine stay, and those of other machines until they are a day old.

    Args:
        is_ours: no other process writes here, as under a run's lock: remove everything temporary.
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
    # Another process may be between its two renames.
    if not is_ours and _age_s(entry) < ASIDE_AGE_S:
        return False
    final = entry.with_name(entry.name.removeprefix(REPLACED))
    if final.exists():
        remove(entry)
    else:
        entry.rename(final)
    return True


@functools.lru_cache(maxsize=1024)  # listing the folder before every write would be slow
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _is_abandoned(temporary: Path) -> bool:
    writer = _WRITER.search(temporary.name)
    if writer and writer["host"] == _host_digest():
        return _start_digest(int(writer["pid"])) != writer["started"]
    return _age_s(temporary) > OTHERS_AGE_S


def _age_s(path: Path) -> float:
    """Seconds since the last change of a file, or of a folder and its content; -1 if it is gone."""
    try:
        changed = [file.lstat().st_ctime for file in (path, *path.rglob("*"))]
    except OSError:  # its writer has just renamed it into place
        return -1.0
    return time.time() - max(changed)


def remove(path: Path) -> None:
    """Remove a file or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
