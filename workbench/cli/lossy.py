"""Messages that may be lost: a full disk under stderr ends no training."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _Lossy:
    """A stream that drops what cannot be written, and says so once it can write again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_lost = False

    def write(self, text: str) -> int:
        with self._dropping():
            if self._has_lost:
                self._stream.write("workbench: messages are missing before this one: the disk under them was full\n")
                self._stream.flush()
                self._has_lost = False
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in LOST:
                raise
            self._has_lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """stderr drops what cannot be written while this is entered."""
    before = sys.stderr
    sys.stderr = _Lossy(before)
    try:
        yield
    finally:
        sys.stderr = before
