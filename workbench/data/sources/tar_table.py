"""Indices of tar shards on disk: made once, in several processes, then opened in constant time.

An index is one file in the cache folder:

- the length of the header (8 bytes) and the header, a ``Summary`` as JSON;
- a row of four int64 a pair: offset and size of its image in the shard, start and end of its text;
- an 8-byte hash of each key;
- the texts: a JSON list a pair (key, captions, group, label, whether the caption is the content of a .txt, synthetic
  captions).

Images without a caption are only counted, unless no image of the shard has one and some have class numbers: then it
holds those, see :mod:`workbench.data.sources.clip_benchmark`. Pairs are read at random and never all held in memory.
"""

import contextlib
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from workbench.cache.arrays import RandomFile
from workbench.data.captions import has_line_break
from workbench.data.sources.remote import ensure_copied, is_copy, known_status
from workbench.data.sources.tar_index import IndexedSample, ShardIndex, index_shard
from workbench.files import write_atomically
from workbench.process import usable_cores
from workbench.resources import PACKAGE, cache_dir

FORMAT = 6  # increase it when the index of the same shard changes
LENGTH, ROW = struct.Struct("<q"), struct.Struct("<4q")
HASH_BYTES = 8
MAX_OPEN = 256  # the usual limit of a process is 1,024
MANY_SHARDS = 8  # that are worth starting processes for
MAX_INDEXERS = 16

Hashes = npt.NDArray[np.uint64]


class CaptionCount(BaseModel):
    """The number of captions, usable or not; by reason, that of the unusable ones and the first one's message."""

    model_config = ConfigDict(frozen=True)

    num_seen: int
    left_out: dict[str, tuple[int, str]]

    @classmethod
    def of(cls, samples: Sequence[IndexedSample], shard: str) -> Self:
        """Counts the captions of the samples of a shard."""
        left_out = [(sample.key, *why) for sample in samples for why in sample.left_out]
        counts = Counter(reason for _, reason, _ in left_out)
        # Backwards, so that the first message of each reason remains.
        first = {reason: f"{shard}, {key!r}: {message}" for key, reason, message in reversed(left_out)}
        return cls(
            num_seen=sum(len(sample.captions) + len(sample.left_out) for sample in samples),
            left_out={reason: (count, first[reason]) for reason, count in counts.items()},
        )


class Summary(BaseModel):
    """What is known of a shard without reading its pairs, and the shard's identity: stale if that differs."""

    model_config = ConfigDict(frozen=True)

    format: int
    shard: str  # absolute path, in hexadecimal: names need not be UTF-8
    size: int
    mtime_ns: int
    digest: str
    num_pairs: int
    num_bytes: int  # of the file after the header
    keys: tuple[str, str]  # the smallest and the largest
    numbers: tuple[int, ...]  # the class of each pair, if the shard has classes and no captions
    of_captions: CaptionCount
    of_classes: CaptionCount  # the same if each class number stands for a caption
    num_ignored: int
    first_ignored: str
    num_txt: int  # pairs whose caption is the content of a .txt
    num_with_line_breaks: int  # of these
    synthetic_digest: str  # SHA-256 of all synthetic captions; empty without any

    @classmethod
    def of(cls, index: ShardIndex, kept: Sequence[IndexedSample], num_bytes: int) -> Self:
        """The summary of a shard's index, of which the file keeps some samples in ``num_bytes`` after the header."""
        keys = [sample.key for sample in kept]
        txt = [sample.captions[0] for sample in kept if sample.is_txt and sample.captions]
        as_classes = [
            sample if sample.number is None else sample._replace(captions=("",), left_out=())
            for sample in index.samples
        ]
        return cls(
            **_identity(index.path, index.size, index.mtime_ns),
            digest=index.digest,
            num_pairs=len(kept),
            num_bytes=num_bytes,
            keys=(min(keys, default=""), max(keys, default="")),
            numbers=tuple(sample.number for sample in kept if not sample.captions and sample.number is not None),
            of_captions=CaptionCount.of(index.samples, index.path.name),
            of_classes=CaptionCount.of(as_classes, index.path.name),
            num_ignored=len(index.ignored),
            first_ignored=index.ignored[0] if index.ignored else "",
            num_txt=len(txt),
            num_with_line_breaks=sum(map(has_line_break, txt)),
            synthetic_digest=_digest_of([sample.synthetic for sample in kept]),
        )


@dataclass(frozen=True)
class ShardTable:
    """The pairs of a shard, read from its index file; safe for threads and processes, picklable.

    ``content`` is the whole file if it could not be written.
    """

    path: Path
    file: Path
    header: bytes
    summary: Summary
    num_pairs: int  # all, or 0
    content: bytes = b""

    def __len__(self) -> int:
        return self.num_pairs

    @cached_property
    def is_copy(self) -> bool:
        """Whether the shard is on another machine, and the path that of its copy."""
        return is_copy(self.path)

    def __getitem__(self, index: int) -> IndexedSample:
        """One pair. Raises ValueError if the index file has changed or is gone."""
        offset, size, start, end = ROW.unpack(self._read(index * ROW.size, (index + 1) * ROW.size))
        texts = self.num_pairs * (ROW.size + HASH_BYTES)
        key, captions, group, label, is_txt, synthetic = json.loads(self._read(texts + start, texts + end))
        number = self.summary.numbers[index] if self.summary.numbers else None
        texts_of = tuple(captions), group, label, is_txt
        return IndexedSample(key, offset, size, *texts_of, number=number, synthetic=tuple(synthetic))

    def key_hashes(self) -> Hashes:
        """The hash of every key."""
        start = self.num_pairs * ROW.size
        return np.frombuffer(self._read(start, start + self.num_pairs * HASH_BYTES), np.uint64)

    def _read(self, start: int, end: int) -> bytes:
        before = LENGTH.size + len(self.header)
        if self.content:
            return self.content[before + start : before + end]
        return _open_index(self.file, self.header).read(before + start, before + end)


def repeats_keys(tables: Sequence[ShardTable]) -> bool:
    """Whether two shards share a key. Within a shard, keys are unique."""
    ranges = sorted(table.summary.keys for table in tables if len(table))
    if all(one[1] < other[0] for one, other in pairwise(ranges)):  # as img2dataset numbers them
        return False
    hashes = np.concatenate([table.key_hashes() for table in tables])
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    starts = np.cumsum([0, *map(len, tables)])
    for value in twice:  # the first is a repeated key, unless two keys happen to share a hash
        indices = np.flatnonzero(hashes == value)
        numbers = np.searchsorted(starts, indices, side="right") - 1
        keys = {tables[number][int(index - starts[number])].key for number, index in zip(numbers, indices, strict=True)}
        if len(keys) < len(indices):
            return True
    return False


def shard_table(path: Path) -> ShardTable:
    """The index of a shard: the file's if size and modification time are unchanged, else newly made and written.

    Raises:
        ValueError: the shard is unreadable or unusable; see :func:`index_shard`.
    """
    path = path.absolute()
    file = _file_of(path)
    try:
        known = _load(file, path)
        if known is not None:
            return known
        if is_copy(path):
            ensure_copied(path)
        index = index_shard(path)
    except OSError as error:
        raise ValueError(f"shard '{path}' cannot be read ({error.strerror}): check its type and permissions") from error
    summary, body = _packed(index)
    header = summary.model_dump_json().encode()
    content = LENGTH.pack(len(header)) + header + body
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
        file.with_suffix(".json").unlink(missing_ok=True)  # an index of an earlier format
    except OSError:  # an unwritable cache: the index stays in memory, and is made again at every start
        return ShardTable(path, file, header, summary, summary.num_pairs, content)
    return ShardTable(path, file, header, summary, summary.num_pairs)


def _packed(index: ShardIndex) -> tuple[Summary, bytes]:
    """The summary and the rows, hashes and texts of a shard."""
    kept = [sample for sample in index.samples if sample.captions]
    kept = kept or [sample for sample in index.samples if sample.number is not None]
    rows, hashes, texts = bytearray(), bytearray(), bytearray()
    for sample in kept:
        fields = sample.key, sample.captions, sample.group, sample.label, sample.is_txt, sample.synthetic
        text = json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")
        rows += ROW.pack(sample.offset, sample.size, len(texts), len(texts) + len(text))
        hashes += hashlib.blake2b(sample.key.encode(errors="surrogatepass"), digest_size=HASH_BYTES).digest()
        texts += text
    body = bytes(rows + hashes + texts)
    return Summary.of(index, kept, len(body)), body


def _digest_of(synthetic: Sequence[tuple[str, ...]]) -> str:
    return hashlib.sha256(json.dumps(synthetic).encode()).hexdigest() if any(synthetic) else ""


def _load(file: Path, path: Path) -> ShardTable | None:
    """The index in a file; None if it is missing, stale, truncated or damaged."""
    status = known_status(path)
    if status is None:
        return None
    try:
        content = RandomFile(file)
        [length] = LENGTH.unpack(content.read(0, LENGTH.size))
        header = content.read(LENGTH.size, LENGTH.size + min(length, len(content)))
        summary = Summary.model_validate_json(header)
    except (OSError, ValueError, struct.error):
        return None
    is_whole = len(content) == LENGTH.size + len(header) + summary.num_bytes
    is_current = summary.model_dump().items() >= _identity(path, *status).items()
    return ShardTable(path, file, header, summary, summary.num_pairs) if is_whole and is_current else None


def _file_of(path: Path) -> Path:
    return cache_dir() / "index" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.bin"


def _identity(path: Path, size: int, mtime_ns: int) -> dict[str, Any]:
    return {"format": FORMAT, "shard": os.fsencode(path).hex(), "size": size, "mtime_ns": mtime_ns}


@lru_cache(MAX_OPEN)  # an index that falls out is closed with its last reader
def _open_index(file: Path, header: bytes) -> RandomFile:
    """Opens an index file again, if it still is the one with this header."""
    try:
        content = RandomFile(file)
    except OSError as error:
        raise ValueError(f"'{file}' can no longer be read ({error.strerror}): start again, to make it again") from error
    if content.read(LENGTH.size, LENGTH.size + len(header)) != header:
        raise ValueError(f"'{file}' was made again, since its shard has changed: start again")
    return content


def shard_tables(paths: Sequence[Path]) -> Generator[ShardTable | ValueError, None, None]:
    """The index of each shard, or why it is unusable, in order; of many shards, made in several processes ahead.

    Every index is written once it is complete: a kill loses only those in the making.
    """
    if len(paths) < MANY_SHARDS:
        yield from map(_attempt, paths)
        return
    with _Indexers() as indexers, ThreadPoolExecutor(min(MAX_INDEXERS, usable_cores())) as pool:
        yield from pool.map(indexers.table, paths)  # closing it cancels those that no thread has begun


def _attempt(path: Path) -> ShardTable | ValueError:
    try:
        return shard_table(path)
    except ValueError as error:
        return error


class _Indexers:
    """Processes that index shards, started when they are first needed; they end with their standard input."""

    # Not a pool of multiprocessing: forks of a process with threads may hang, and spawned ones run the user's program.

    def __init__(self) -> None:
        self._idle: LifoQueue[subprocess.Popen[bytes]] = LifoQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._idle.empty():
            self._idle.get().communicate()  # closes its input, and waits

    def table(self, path: Path) -> ShardTable | ValueError:
        """The index of a shard, made by another process if it is not on disk yet."""
        path = path.absolute()
        with contextlib.suppress(OSError):
            known = _load(_file_of(path), path)
            if known is not None:
                return known
            self._make(path)
        # Read from the disk now. Whatever went wrong there is met again here, where it can be explained.
        return _attempt(path)

    def _make(self, path: Path) -> None:
        try:
            process = self._idle.get_nowait()
        except Empty:
            process = _start_indexer()
        assert process.stdin and process.stdout
        process.stdin.write(os.fsencode(path).hex().encode() + b"\n")
        process.stdin.flush()
        if process.stdout.readline():  # else it has died
            self._idle.put(process)


def _start_indexer() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])},
        start_new_session=True,  # else Ctrl-C reaches it from the terminal too
    )


def serve() -> None:
    """Indexes the shards whose names are read from stdin, a line each; answers each with a line."""
    for line in sys.stdin:
        _attempt(Path(os.fsdecode(bytes.fromhex(line))))
        print(flush=True)
