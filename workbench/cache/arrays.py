"""Files of a cache entry: read at random in constant memory, and written in blocks that survive a kill.

``rows.bin`` has items of equal size, and ``digests.bin`` the SHA-256 of every block of items: zeros for a block that is
not written yet.
"""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

from workbench.files import FULL, DiskFullError
from workbench.process import free_bytes

ROWS, DIGESTS = "rows.bin", "digests.bin"
DIGEST_BYTES = sha256().digest_size


class RandomFile:
    """A file that is read at random. It has no position: threads and forked processes share it. Pickled by its path."""

    # pread, not a memory map: pages of a map count as resident memory, and with large folios in the page cache touching
    # one page maps megabytes. A run would seem to grow to the size of the file.

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file is missing or unreadable."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.status = os.fstat(self._descriptor)

    def __len__(self) -> int:
        return self.status.st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __reduce__(self) -> tuple[type["RandomFile"], tuple[Path]]:
        return RandomFile, (self._path,)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end`` (exclusive); fewer at the end of the file."""
        return os.pread(self._descriptor, end - start, start)


@dataclass(frozen=True)
class Blocks:
    """How many items there are, of how many bytes, and how many of them share a digest."""

    num_items: int
    item_bytes: int
    items_per_block: int

    @property
    def size_bytes(self) -> int:
        return self.num_items * self.item_bytes

    def __len__(self) -> int:
        return math.ceil(self.num_items / self.items_per_block)

    def __getitem__(self, number: int) -> range:
        """The items of a block."""
        start = number * self.items_per_block
        return range(start, min(start + self.items_per_block, self.num_items))


def read_digests(folder: Path, blocks: Blocks) -> list[bytes]:
    """The digest of every block; empty for one that is not written yet, and for all if ``rows.bin`` is truncated.

    Raises:
        OSError: they cannot be read.
    """
    if (folder / ROWS).stat().st_size != blocks.size_bytes:
        return [b""] * len(blocks)
    content = (folder / DIGESTS).read_bytes().ljust(DIGEST_BYTES * len(blocks), b"\0")
    digests = (content[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] for number in range(len(blocks)))
    return [digest if any(digest) else b"" for digest in digests]


class BlockReader:
    """The items of a complete ``rows.bin``; each block is verified at its first read."""

    def __init__(self, folder: Path, blocks: Blocks) -> None:
        """Raises ValueError if blocks are missing, and OSError if files are."""
        self._folder, self._blocks = folder, blocks
        self._rows = RandomFile(folder / ROWS)
        self._digests = read_digests(folder, blocks)
        if not all(self._digests):
            raise ValueError(f"blocks are missing in '{folder}'")
        self._checked: set[int] = set()

    def read(self, rows: Sequence[int], rows_per_item: int) -> bytearray:
        """The bytes of some rows, of which each item has ``rows_per_item``.

        Raises:
            ValueError: a block is damaged.
        """
        per_block = self._blocks.items_per_block * rows_per_item
        for number in {row // per_block for row in rows} - self._checked:
            if not self._is_intact(number):
                raise ValueError(f"block {number} of '{self._folder}' is damaged")
            self._checked.add(number)
        size = self._blocks.item_bytes // rows_per_item
        return bytearray().join(self._rows.read(row * size, (row + 1) * size) for row in rows)

    def damaged(self) -> list[int]:
        """The blocks whose SHA-256 does not match; reads all of them."""
        return [number for number in range(len(self._blocks)) if not self._is_intact(number)]

    def _is_intact(self, number: int) -> bool:
        items, size = self._blocks[number], self._blocks.item_bytes
        return sha256(self._rows.read(items.start * size, items.stop * size)).digest() == self._digests[number]


class BlockWriter:
    """Writes blocks in any order: ``with BlockWriter(folder, blocks) as writer``. A kill loses at most one block."""

    def __init__(self, folder: Path, blocks: Blocks) -> None:
        self._folder, self._blocks = folder, blocks
        self._files = ExitStack()

    def __enter__(self) -> Self:
        (self._folder / DIGESTS).touch()
        self._rows, self._digests = (
            self._files.enter_context((self._folder / name).open("r+b")) for name in (ROWS, DIGESTS)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, number: int, content: bytes) -> None:
        """Writes a block to the disk, then its digest: a kill in between leaves the block missing."""
        _write(self._rows, content, self._blocks[number].start * self._blocks.item_bytes)
        _write(self._digests, sha256(content).digest(), number * DIGEST_BYTES)

    def forget(self, numbers: Iterable[int]) -> None:
        """Marks blocks as missing."""
        for number in numbers:
            _write(self._digests, bytes(DIGEST_BYTES), number * DIGEST_BYTES)


def allocate(folder: Path, blocks: Blocks, *, keep: bool) -> None:
    """Makes ``rows.bin`` at its full size, so that a full disk is found now; with ``keep``, written blocks stay.

    Raises:
        DiskFullError: no room.
    """
    path, num_bytes = folder / ROWS, blocks.size_bytes
    allocated = path.stat().st_blocks * 512 if path.exists() else 0  # POSIX: units of 512 bytes
    if not keep:
        (folder / DIGESTS).unlink(missing_ok=True)
    if free_bytes(folder) < num_bytes - allocated:
        raise DiskFullError(path, num_bytes - allocated)
    try:
        with path.open("ab") as rows:
            os.truncate(rows.fileno(), num_bytes)
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(rows.fileno(), 0, num_bytes)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(path, num_bytes) from None
        raise


def _write(file: BinaryIO, content: bytes, offset: int) -> None:
    """Writes and syncs: the order of writes must survive a power cut."""
    file.seek(offset)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
