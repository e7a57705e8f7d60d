"""Files and folders that are old or new, never else: written beside their place, synced, renamed into it."""

import errno
import os
import secrets
import shutil
import time
from pathlib import Path

from workbench.runs.disk import free_bytes, size_text

TEMPORARY = ".tmp-"
REPLACED = ".old-"
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError):
    """There is no room left for ``num_bytes`` at ``path``."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        super().__init__(f"disk full at {path}: need {size_text(num_bytes)}, have {size_text(free_bytes(path))}")
        self.errno = errno.ENOSPC


def why_not_written(error: OSError) -> str:
    """An error of writing as the clause of a line for people: what went wrong, and with which file."""
    return str(error) if isinstance(error, DiskFullError) else f"{error.strerror or error}: {error.filename}"


def temporary_beside(path: Path) -> Path:
    """A fresh name in the same folder that ``remove_orphans`` will clear if the writer dies."""
    return path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def write_atomically(path: Path, data: bytes | str) -> None:
    """Puts ``data`` (text as UTF-8) at ``path``; a kill at any moment leaves the old file or the new one.

    A symbolic link is followed, and the file's mode is the umask's.

    Raises:
        DiskFullError: there is no room; the old file is intact.
        OSError: the folder is missing or cannot be written; the old file is intact.
    """
    content = data.encode() if isinstance(data, str) else data
    target = path.resolve()
    temporary = temporary_beside(target)
    try:
        _write_synced(temporary, content)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError(path, len(content)) from None
        raise
    _sync(target.parent)


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    renames leaves it aside: ``remove_orphans`` puts it back, so that after the next start there is the old
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


def remove_orphans(folder: Path, *, older_than_s: float = 0.0) -> list[str]:
    """Clears what killed writers left in ``folder``, and returns the names that were cleared or put back.

    Call it while no one writes there (under the run's lock); else spare the young with ``older_than_s``.
    """
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.name.startswith(TEMPORARY) and _age_s(entry) >= older_than_s:
            remove(entry)
            found.append(entry.name)
        elif entry.name.startswith(REPLACED):
            final = entry.with_name(entry.name.removeprefix(REPLACED))
            if final.exists():
                remove(entry)
            else:
                entry.rename(final)
            found.append(entry.name)
    return found


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # its writer has just renamed it into place
        return -1.0


def remove(path: Path) -> None:
    """Removes a file or a whole folder; a missing one is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
