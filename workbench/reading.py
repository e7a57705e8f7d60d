"""Reading files that somebody else may have left there: plain files only, and no more of one than is expected.

Opening a named pipe blocks, a device never ends and a sparse file of terabytes fills the memory, so nothing that a
run folder holds is read in any other way.
"""

import os
import stat
from pathlib import Path

from workbench.terminal import visible

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(ValueError):
    """A file that cannot be read within bounds; the message names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read {visible(str(path))}: {reason}")


def read_file(path: Path, most_bytes: int) -> bytes:
    """The whole content of a plain file.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: it is no plain file, larger than ``most_bytes``, or the system refuses.
    """
    content = read_part(path, 0, most_bytes + 1)
    if len(content) > most_bytes:
        raise UnreadableError(path, f"larger than {most_bytes:,} bytes")
    return content


def read_part(path: Path, offset: int, num_bytes: int) -> bytes:
    """At most ``num_bytes`` of a plain file from a byte offset on; fewer where it ends before.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: it is no plain file, or the system refuses.
    """
    file_size(path)  # before it is opened: opening alone may wait for a writer, or wake a device
    try:
        # O_NONBLOCK, in case a pipe has just taken the file's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _check_plain(path, os.fstat(descriptor).st_mode)
            file.seek(offset)
            return _read(descriptor, num_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, (error.strerror or str(error)).lower()) from None


def file_size(path: Path) -> int:
    """The size of a plain file in bytes.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: it is no plain file, or the system refuses.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, (error.strerror or str(error)).lower()) from None
    _check_plain(path, found.st_mode)
    return found.st_size


def _read(descriptor: int, num_bytes: int) -> bytes:
    parts = []
    while num_bytes > 0 and (part := os.read(descriptor, min(num_bytes, 2**24))):
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


def _check_plain(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
        raise UnreadableError(path, f"it is {kind}, not a file")
