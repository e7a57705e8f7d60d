"""Parquet and Arrow files as tables: columns of text in batches, and the bytes of one image at random."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from workbench.cache.arrays import RandomFile

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Int64 = npt.NDArray[np.int64]

BATCH_ROWS = 4096
EDGE_BYTES = 65536  # at the start and end of a file, in its digest
MAX_CACHED_BYTES = 256 << 20
MAX_OPEN_FILES = 256  # the usual limit of a process is 1,024
NULL = -1  # the size of an image that is null


def require_pyarrow() -> None:
    """Raises ValueError with the remedy if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise ValueError(
            "Parquet and Arrow files are read with pyarrow, which is not installed: "
            "pip install 'clip-distillation-workbench[parquet]'"
        )


class TableFile(Protocol):
    """A file of rows; picklable, and safe for threads and forked processes.

    Attributes:
        path: the file.
        status: its size and modification time when it was opened.
        num_rows: the number of rows.
        schema: the columns.
        largest_read: bytes that the read of one image may need at most.
    """

    path: Path
    status: os.stat_result
    num_rows: int
    largest_read: int

    @property
    def schema(self) -> "pa.Schema": ...

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        """The values of some columns, row by row."""

    def index_images(self, column: str) -> None:
        """Prepares the reading of images from a column."""

    def image(self, row: int) -> bytes | None:
        """The bytes of a row's image; None if they are null."""


def has_bytes(kind: "pa.DataType") -> bool:
    """Whether a column of this type has bytes, alone or in a struct as the Hub writes it."""
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def digest(table: TableFile) -> bytes:
    """Hash of a file's name, size, and first and last 64 KiB: a Parquet file's footer has sizes of all columns."""
    content = RandomFile(table.path)
    size = len(content)
    parts = content.read(0, EDGE_BYTES), content.read(max(0, size - EDGE_BYTES), size)
    return sha256(repr((table.path.name, size)).encode() + b"".join(parts)).digest()


def open_table(path: Path) -> TableFile:
    """Opens a Parquet file, or an Arrow file of `datasets`.

    Raises:
        ValueError: it is missing, cut short, or another format.
    """
    import pyarrow as pa

    try:
        return ParquetFile(path) if path.suffix == ".parquet" else ArrowFile(path)
    except FileNotFoundError as error:
        raise ValueError(f"'{path}' is missing: copy it, or correct the range") from error
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"'{path}' is cut short, damaged or unreadable ({text[:160]}): copy it again") from error


class ParquetFile:
    """A Parquet file. Its row groups are compressed as wholes: the read of an image decompresses its group's images.

    The last groups that were read stay in memory, up to 256 MiB a process, so reading in order decompresses each once.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.status = path, path.stat()
        self.num_rows, self.largest_read = self._file.metadata.num_rows, 0
        self._ends = np.cumsum([group.num_rows for group in self._groups()], dtype=np.int64)
        self._image = ""

    def index_images(self, column: str) -> None:
        self._image = column
        self.largest_read = max((_column_bytes(group, column) for group in self._groups()), default=0)

    @property
    def _file(self) -> "pq.ParquetFile":
        return _parquet(self.path, self.status.st_size, self.status.st_mtime_ns)

    @property
    def schema(self) -> "pa.Schema":
        return self._file.schema_arrow

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for batch in self._file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            yield from batch.to_pylist()

    def image(self, row: int) -> bytes | None:
        number = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[number - 1]) if number else 0
        images = _GROUPS.get((self.path, self.status.st_mtime_ns, self._image, number), lambda: self._group(number))
        value = images[row - start].as_py()
        data: bytes | None = value["bytes"] if isinstance(value, dict) else value
        return data

    def _groups(self) -> Iterator[Any]:
        metadata = self._file.metadata
        return (metadata.row_group(number) for number in range(metadata.num_row_groups))

    def _group(self, number: int) -> "pa.ChunkedArray":
        names = self.schema.field(self._image)
        is_struct = names.type.num_fields > 0
        # Threads of pyarrow's own would not exist in a forked worker.
        columns = [f"{self._image}.bytes" if is_struct else self._image]
        return self._file.read_row_group(number, columns=columns, use_threads=False).column(0)


def _column_bytes(group: Any, image: str) -> int:
    """Bytes of the image column of a row group, decompressed."""
    columns = [group.column(number) for number in range(group.num_columns)]
    return sum(one.total_uncompressed_size for one in columns if one.path_in_schema.split(".")[0] == image)


class ArrowFile:
    """An Arrow file as ``datasets.save_to_disk`` writes it: uncompressed, so that images are read at their offsets."""

    largest_read = 0

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self._content = RandomFile(path)
        self.status = self._content.status
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as batches:
            self.schema: pa.Schema = batches.schema
            self.num_rows = sum(batch.num_rows for batch in batches)
        self._offset_N = self._size_N = np.zeros(0, np.int64)

    def index_images(self, column: str) -> None:
        import pyarrow as pa

        if not has_bytes(self.schema.field(column).type):
            return
        with pa.memory_map(str(self.path)) as file:
            buffer = file.read_buffer()
            spans = [_spans(batch.column(column), buffer) for batch in pa.ipc.open_stream(buffer)]
        self._offset_N, self._size_N = (
            np.concatenate([span[part] for span in spans] or [self._offset_N]) for part in (0, 1)
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"schema": self.schema.serialize().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import pyarrow as pa

        self.__dict__ = state | {"schema": pa.ipc.read_schema(pa.py_buffer(state["schema"]))}

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                yield from batch.select(columns).to_pylist()

    def image(self, row: int) -> bytes | None:
        offset, size = int(self._offset_N[row]), int(self._size_N[row])
        return None if size == NULL else self._content.read(offset, offset + size)


def _spans(column: "pa.Array", buffer: "pa.Buffer") -> tuple[Int64, Int64]:
    """Offset in the file and size of each image of a column, whose buffers are slices of the file."""
    import pyarrow as pa

    values = column.field("bytes") if pa.types.is_struct(column.type) else column
    is_null = values.is_null().to_numpy(zero_copy_only=False)
    _, ends, data = values.buffers()
    if data is None:
        return np.zeros(len(values), np.int64), np.full(len(values), NULL, np.int64)
    start = data.address - buffer.address
    if not 0 <= start < len(buffer):
        raise pa.ArrowInvalid("it is compressed: save it with datasets.save_to_disk")
    kind = np.dtype(np.int64 if pa.types.is_large_binary(values.type) else np.int32)
    end_N = np.frombuffer(ends, kind)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    return start + end_N[:-1], np.where(is_null, NULL, np.diff(end_N))


@lru_cache(MAX_OPEN_FILES)
def _parquet(path: Path, size: int, mtime_ns: int) -> "pq.ParquetFile":
    """Opens a Parquet file whose size and modification time are known.

    Raises:
        ValueError: they have changed.
    """
    import pyarrow.parquet as pq

    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise ValueError(f"'{path}' has changed since it was opened: start again")
    return pq.ParquetFile(path)


class _RowGroups:
    """The images of the row groups that were read last, in bounded memory. One thread reads at a time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything, with a new lock: another thread may have held the old one when a process was forked."""
        self._lock = threading.Lock()
        self._groups: OrderedDict[Hashable, tuple[pa.ChunkedArray, int]] = OrderedDict()
        self._num_bytes = 0

    def get(self, key: Hashable, read: "Callable[[], pa.ChunkedArray]") -> "pa.ChunkedArray":
        """The group of the key, which is read if it is not in memory; the ones least recently used make room."""
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key][0]
            images = read()
            self._groups[key] = images, images.nbytes
            self._num_bytes += images.nbytes
            while len(self._groups) > 1 and self._num_bytes > MAX_CACHED_BYTES:
                self._num_bytes -= self._groups.popitem(last=False)[1][1]
            return images


_GROUPS = _RowGroups()
os.register_at_fork(after_in_child=_GROUPS.clear)
