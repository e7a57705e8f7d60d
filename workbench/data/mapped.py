"""A file of many pieces, read through memory pages that are given back before they pile up."""

import mmap
import os
from pathlib import Path

RELEASE_BYTES = 1 << 25
FAULT_BYTES = 1 << 16  # Linux maps so much around a page that is asked for


class Mapped:
    """A file in memory pages: nothing is copied, threads and forked processes share it, and it is picklable by path.

    Pages that were read count as a process's memory, although the system can take them back: a run would seem to grow
    until it held the whole file. Those of a file above 32 MB are let go as often as that; the next reader finds them in
    the system's cache.
    """

    def __init__(self, path: Path) -> None:
        """Maps the file as it is now.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        self._path = path
        self._num_touched = 0
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self._view = memoryview(self._pages or b"")

    def __len__(self) -> int:
        return len(self._view)

    def __reduce__(self) -> tuple[type["Mapped"], tuple[Path]]:
        return Mapped, (self._path,)

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from ``start`` up to, not including, ``end``; they stay readable as long as someone holds them."""
        self._num_touched += end - start + FAULT_BYTES
        if self._num_touched > RELEASE_BYTES < len(self._view):
            self._release()
        return self._view[start:end]

    def _release(self) -> None:
        self._num_touched = 0
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)  # of a file: whoever reads on gets the same bytes again
