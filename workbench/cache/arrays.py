"""Files of a cache entry: read at random in constant memory, and written in blocks that survive a kill.

``rows.bin`` has items of equal size, each of some rows; ``checksums.bin`` has 8 bytes a row; ``digests.bin`` has the
SHA-256 of every block of items: zeros for a block that is not written yet.
"""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from workbench.files import FULL, DiskFullError
from workbench.process import free_bytes

ROWS, CHECKSUMS, DIGESTS = "rows.bin", "checksums.bin", "digests.bin"
DIGEST_BYTES = sha256().digest_size
CHECKSUM_BYTES = 8
UNKNOWN = bytes(CHECKSUM_BYTES)  # the checksum of a row that a version without checksums has written


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

    def will_need(self, start: int, end: int) -> None:
        """Announces a read of these bytes, which the system then reads ahead in their order on the disk."""
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True)
class Blocks:
    """How many items there are, of how many bytes and rows, and how many of them share a digest."""

    num_items: int
    item_bytes: int
    items_per_block: int
    rows_per_item: int = 1

    @property
    def size_bytes(self) -> int:
        return self.num_items * self.item_bytes

    @property
    def num_rows(self) -> int:
        return self.num_items * self.rows_per_item

    @property
    def row_bytes(self) -> int:
        return self.item_bytes // self.rows_per_item

    def rows(self, number: int) -> range:
        """The rows of a block."""
        items = self[number]
        return range(items.start * self.rows_per_item, items.stop * self.rows_per_item)

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


def checksum(row: int, content: bytes) -> bytes:
    """The checksum of a row's content in its place: a row that was written elsewhere differs too."""
    return blake2b(content, digest_size=CHECKSUM_BYTES, salt=row.to_bytes(8, "little")).digest()


class BlockReader:
    """The rows of a complete ``rows.bin``; each is verified at its first read, or its block if it has no checksum."""

    def __init__(self, folder: Path, blocks: Blocks) -> None:
        """Raises ValueError if blocks are missing, and OSError if files are."""
        self._folder, self._blocks = folder, blocks
        self._rows = RandomFile(folder / ROWS)
        self._checksums = _checksums(folder, blocks)
        self._digests = read_digests(folder, blocks)
        if not all(self._digests):
            raise ValueError(f"blocks are missing in '{folder}'")
        # A byte a row, and the system provides those pages alone that are touched.
        self._is_checked = np.zeros(blocks.num_rows, np.bool_)

    def read(self, rows: Sequence[int]) -> bytearray:
        """The bytes of some rows.

        Raises:
            ValueError: a row, or the block of a row without checksum, is damaged.
        """
        size = self._blocks.row_bytes
        found = [self._rows.read(row * size, (row + 1) * size) for row in rows]
        for position in np.flatnonzero(~self._is_checked[np.asarray(rows, np.int64)]).tolist():
            self._check(rows[position], found[position])
        return bytearray().join(found)

    def damaged(self) -> list[int]:
        """The blocks of which any row, or its checksum, differs from what was written; reads all of them."""
        return [number for number in range(len(self._blocks)) if not self._is_intact(number)]

    def _check(self, row: int, content: bytes) -> None:
        [known] = self._known(range(row, row + 1))
        number = row // self._blocks.rows_per_item // self._blocks.items_per_block
        if known == UNKNOWN and not self._is_checked[row]:
            if self._is_intact(number):
                checked = self._blocks.rows(number)
                self._is_checked[checked.start : checked.stop] = True
        elif known == checksum(row, content):
            self._is_checked[row] = True
        if not self._is_checked[row]:
            raise ValueError(f"block {number} of '{self._folder}' is damaged")

    def _known(self, rows: range) -> list[bytes]:
        """The checksums of successive rows."""
        if self._checksums is None:
            return [UNKNOWN] * len(rows)
        content = self._checksums.read(rows.start * CHECKSUM_BYTES, rows.stop * CHECKSUM_BYTES)
        return _cut(content, CHECKSUM_BYTES)

    def _is_intact(self, number: int) -> bool:
        rows, size = self._blocks.rows(number), self._blocks.row_bytes
        content = self._rows.read(rows.start * size, rows.stop * size)
        if sha256(content).digest() != self._digests[number]:
            return False
        each = zip(rows, _cut(content, size), self._known(rows), strict=True)
        return all(known in (UNKNOWN, checksum(row, part)) for row, part, known in each)


def _cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def _checksums(folder: Path, blocks: Blocks) -> RandomFile | None:
    """The file of checksums; None if a version without checksums has written the rows."""
    with suppress(OSError):
        file = RandomFile(folder / CHECKSUMS)
        return file if len(file) == blocks.num_rows * CHECKSUM_BYTES else None
    return None


class BlockWriter:
    """Writes blocks in any order: ``with BlockWriter(folder, blocks) as writer``. A kill loses at most one block."""

    def __init__(self, folder: Path, blocks: Blocks) -> None:
        self._folder, self._blocks = folder, blocks
        self._files = ExitStack()

    def __enter__(self) -> Self:
        for name in (CHECKSUMS, DIGESTS):
            (self._folder / name).touch()
        self._rows, self._checksums, self._digests = (
            self._files.enter_context((self._folder / name).open("r+b")) for name in (ROWS, CHECKSUMS, DIGESTS)
        )
        self._checksums.truncate(self._blocks.num_rows * CHECKSUM_BYTES)
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, number: int, content: bytes) -> None:
        """Writes a block to the disk, then its digest: a kill in between leaves the block missing."""
        rows, size = self._blocks.rows(number), self._blocks.row_bytes
        checksums = [checksum(row, part) for row, part in zip(rows, _cut(content, size), strict=True)]
        _write(self._rows, content, rows.start * size)
        _write(self._checksums, b"".join(checksums), rows.start * CHECKSUM_BYTES)
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
        for name in (DIGESTS, CHECKSUMS):
            (folder / name).unlink(missing_ok=True)
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
