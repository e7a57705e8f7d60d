"""Tar shards in webdataset layout as a data set: indexed once by byte offset, then read at random."""

import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate, chain
from pathlib import Path

from workbench.data.bar import with_bar
from workbench.data.decode import decode_image
from workbench.data.index_cache import cached_index
from workbench.data.picture_error import PictureError
from workbench.data.sample import Dataset, Sample, SampleText
from workbench.data.tar_index import IndexedSample, ShardIndex

MAX_OPEN_SHARDS = 256  # a process may usually have 1,024 files open
MANY_SHARDS = 8


class ShardDataset(Dataset):
    """The pairs of some tar shards, in the order of the shards and of the pictures in them.

    Keys are those of the members; where two shards share one, every key gets its shard's name in front. The
    texts are held in memory, the pictures are read and decoded one by one, by as many threads and processes
    as like.
    """

    def __init__(self, paths: Sequence[Path], num_pairs: int = 0) -> None:
        """Indexes the shards, or finds their indices in the cache.

        Args:
            paths: the shards, in order.
            num_pairs: how many pairs at most, the first ones; 0 for all. Shards beyond them stay unread.

        Raises:
            ValueError: a shard that is missing or cannot be used, no pair at all, or pairs without a caption.
        """
        assert num_pairs >= 0
        self._shards = list(_indices(paths, num_pairs))
        self._ends = list(accumulate(len(shard.samples) for shard in self._shards))
        self._num_pairs = min(self._ends[-1], num_pairs or self._ends[-1])
        self._shard_in_key = self._keys_repeat()
        self.fingerprint = self._fingerprint()
        self._check(paths)

    def __len__(self) -> int:
        return self._num_pairs

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample.

        Raises:
            IndexError: there is no such sample.
            PictureError: the picture cannot be decoded.
            ValueError: the shard has changed since it was indexed.
        """
        shard, sample = self._locate(index)
        try:
            image = decode_image(self.encoded(index))
        except PictureError as error:
            raise error.at(f"shard '{shard.path}', picture of {sample.key!r}") from error
        text = self._text(shard, sample)
        return Sample(text.key, text.captions, text.group, text.label, image)

    def text(self, index: int) -> SampleText:
        """One sample without its picture, from memory."""
        return self._text(*self._locate(index))

    def encoded(self, index: int) -> bytes:
        """The file of one sample's picture."""
        shard, sample = self._locate(index)
        return _open_shard(shard.path, shard.size, shard.mtime_ns).read(sample.offset, sample.size)

    def stamp(self) -> str:
        """Of the shards' sizes and times."""
        return sha256(repr([(shard.size, shard.mtime_ns) for shard in self._shards]).encode()).hexdigest()

    def _text(self, shard: ShardIndex, sample: IndexedSample) -> SampleText:
        key = f"{shard.path.stem}/{sample.key}" if self._shard_in_key else sample.key
        return SampleText(key, sample.captions, key if sample.group is None else sample.group, sample.label)

    def _locate(self, index: int) -> tuple[ShardIndex, IndexedSample]:
        if not 0 <= index < self._num_pairs:
            raise IndexError(f"no sample {index} among {self._num_pairs}")
        number = bisect_right(self._ends, index)
        shard = self._shards[number]
        return shard, shard.samples[index - self._ends[number] + len(shard.samples)]

    def _keys_repeat(self) -> bool:
        """Whether a key needs its shard's name to be unique; within a shard it is."""
        samples = chain.from_iterable(shard.samples for shard in self._shards)
        if len({sample.key for sample in samples}) == self._ends[-1]:
            return False
        names = [shard.path.stem for shard in self._shards]
        if len(set(names)) < len(names):
            raise ValueError(f"shards of one name share keys, first '{self._shards[0].path}': give each its own name")
        return True

    def _fingerprint(self) -> str:
        parts = [*(shard.digest for shard in self._shards), str(self._num_pairs)]
        return sha256(" ".join(parts).encode()).hexdigest()

    def _check(self, paths: Sequence[Path]) -> None:
        """Refuses what would fail at some step of the night, and says what was left out."""
        where = f"'{paths[0]}'{' and its fellows' if len(paths) > 1 else ''}"
        if not self._num_pairs:
            raise ValueError(f"no pairs in {where}: a pair is KEY.jpg, .png or .webp with KEY.txt or KEY.json")
        texts = (self.text(index) for index in range(self._num_pairs))
        if blank := [text.key for text in texts if not text.captions]:
            raise ValueError(
                f"{len(blank)} of {self._num_pairs} pairs in {where} have no caption "
                f'(first {", ".join(map(repr, blank[:3]))}): give each a .txt or a .json with "caption"'
            )
        if ignored := [f"{shard.path.name}: {name}" for shard in self._shards for name in shard.ignored]:
            warnings.warn(f"left out {len(ignored)} members of shards, first {ignored[0]}", stacklevel=3)


def _indices(paths: Sequence[Path], num_pairs: int) -> Iterator[ShardIndex]:
    """The indices of the shards, up to the one that completes ``num_pairs``."""
    total = 0
    for path in with_bar(paths, "indexing shards", MANY_SHARDS):
        index = cached_index(path)
        total += len(index.samples)
        yield index
        if num_pairs and total >= num_pairs:
            return


class _OpenShard:
    """A shard's file descriptor, closed when the last reader lets go.

    ``pread`` has no position to share, so threads and forked processes use one descriptor without a lock.
    """

    def __init__(self, path: Path, size: int, mtime_ns: int) -> None:
        self._descriptor = -1
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise ValueError(f"shard '{path}' cannot be read any more ({error.strerror}): put it back") from error
        if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
            raise self._changed()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise self._changed()
        return data

    def _changed(self) -> ValueError:
        return ValueError(f"shard '{self._path}' has changed since it was indexed: start again")


@lru_cache(MAX_OPEN_SHARDS)
def _open_shard(path: Path, size: int, mtime_ns: int) -> _OpenShard:
    return _OpenShard(path, size, mtime_ns)
