"""Webdataset tar shards (a file, a folder, or a brace range) as a dataset: indexed once, then read at random."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

from workbench.cache.arrays import RandomFile
from workbench.data.captions import lines_of
from workbench.data.dataset import FORMS, Dataset, Sample, SampleText, no_such_path, spread
from workbench.data.images import decode_image
from workbench.data.sources.ahead import COPYING_AHEAD
from workbench.data.sources.clip_benchmark import checked, is_retrieval, prompted, read_task
from workbench.data.sources.ranges import expand_ranges
from workbench.data.sources.remote import ensure_copied, is_copy
from workbench.data.sources.tar_index import IndexedSample
from workbench.data.sources.tar_table import MANY_SHARDS, CaptionCount, ShardTable, repeats_keys, shard_tables
from workbench.data.unusable import (
    BadImageCount,
    BadShards,
    ImageError,
    caption_tally,
    reading_of,
    refused_shards,
    skipped_shards,
)
from workbench.progress import with_bar

MAX_OPEN_SHARDS = 256  # the usual limit of a process is 1,024
MAX_OPEN_COPIES = 8  # a deleted copy takes disk space until it is closed
MAX_COPIES = 3  # of a shard before it is read


class ShardDataset(Dataset):
    """The pairs of tar shards, in order.

    Keys are those of the members; if two shards share a key, every key gets its shard's name as prefix. Texts are read
    from the indices, and images decoded, on access, safely from several threads and processes. Images without a
    caption are left out. If most .txt files have several lines, or CLIP_benchmark's ``dataset_type.txt`` says
    "retrieval", every line is a caption. Shards with class numbers
    instead of captions are read as CLIP_benchmark's, see :mod:`workbench.data.sources.clip_benchmark`.
    """

    def __init__(self, paths: Sequence[Path], num_pairs: int = 0, bad_shards: BadShards = "refuse") -> None:
        """Indexes the shards, or loads their cached indices; those after the first ``num_pairs`` pairs are not read.

        Raises:
            ValueError: a missing or unusable shard, no pairs, or too many images without a caption.
        """
        assert num_pairs >= 0
        shards, bad = _indices(paths, num_pairs, bad_shards)
        where = f"'{paths[0]}'{' and other shards' if len(paths) > 1 else ''}"
        self.task = read_task(shards)
        shards = [checked(shard, self.task) for shard in shards]
        num_with_lines, num_txt = (
            sum(getattr(shard.summary, name) for shard in shards) for name in ("num_with_line_breaks", "num_txt")
        )
        by_line = num_with_lines > 0 and (2 * num_with_lines > num_txt or is_retrieval(shards))
        self.reading = reading_of(
            _tally([shard.summary.of_classes if self.task else shard.summary.of_captions for shard in shards], where),
            *_notes(shards, bad, len(paths)),
            skipped=[path.name for path in bad],
            by_line=by_line,
        )
        self._shards = shards
        self._ends = list(accumulate(map(len, shards)))
        self._num_pairs = min(self._ends[-1], num_pairs or self._ends[-1])
        if not self._num_pairs:
            raise ValueError(f"no pairs in {where}: a pair is KEY.jpg, .png or .webp with KEY.txt or KEY.json")
        self._shard_in_key = self._keys_repeat()
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return self._num_pairs

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample. Raises ValueError if the shard has changed since it was indexed."""
        shard, sample = self._locate(index)
        try:
            image = decode_image(self.encoded(index))
        except ImageError as error:
            raise error.at(f"shard '{shard.path}', image of {sample.key!r}") from error
        return Sample(**vars(self._text(shard, sample)), image=image)

    def text(self, index: int) -> SampleText:
        return self._text(*self._locate(index))

    def encoded(self, index: int) -> bytes:
        shard, sample = self._locate(index)
        data = _open_table(shard).read(sample.offset, sample.offset + sample.size)
        if len(data) != sample.size:
            raise _has_changed(shard.path)
        return data

    @property
    def synthetic_digest(self) -> str:
        digests = [shard.summary.synthetic_digest for shard in self._shards]
        return sha256(" ".join(digests).encode()).hexdigest() if any(digests) else ""

    def stamp(self) -> str:
        return sha256(
            repr([(shard.summary.size, shard.summary.mtime_ns) for shard in self._shards]).encode()
        ).hexdigest()

    @property
    def shard_sizes(self) -> tuple[list[int]]:
        return ([len(shard) for shard in self._shards],)

    def probed(self, count: int) -> list[int]:
        """Of shards on other machines, only those with a copy, or the first: each may be hundreds of megabytes."""
        here = [number for number, shard in enumerate(self._shards) if not shard.is_copy or shard.path.exists()] or [0]
        ends = list(accumulate(len(self._shards[number]) for number in here))
        found = []
        for place in spread(ends[-1], count):
            at = bisect_right(ends, place)
            found.append(self._ends[here[at]] - ends[at] + place)
        return [index for index in found if index < self._num_pairs]

    def will_need(self, samples: range) -> None:
        number = bisect_right(self._ends, samples.start)
        while number < len(self._shards) and (start := self._ends[number] - len(self._shards[number])) < samples.stop:
            shard = self._shards[number]
            inside = range(max(samples.start - start, 0), min(samples.stop - start, len(shard)))
            if shard.is_copy:
                COPYING_AHEAD.announce(shard.path)
            elif inside:  # a shard may have no pairs
                first, last = shard[inside[0]], shard[inside[-1]]
                _open_table(shard).will_need(first.offset, last.offset + last.size)
            number += 1

    def _text(self, shard: ShardTable, sample: IndexedSample) -> SampleText:
        sample = prompted(sample, self.task) if self.task else sample
        key = f"{shard.path.stem}/{sample.key}" if self._shard_in_key else sample.key
        by_line = sample.is_txt and self.reading.lines_are_captions
        captions = tuple(lines_of(sample.captions[0])) if by_line else sample.captions
        group = key if sample.group is None else sample.group
        return SampleText(key, captions, group, sample.label, synthetic=sample.synthetic)

    def _locate(self, index: int) -> tuple[ShardTable, IndexedSample]:
        if not 0 <= index < self._num_pairs:
            raise IndexError(f"no sample {index} among {self._num_pairs}")
        number = bisect_right(self._ends, index)
        shard = self._shards[number]
        return shard, shard[index - self._ends[number] + len(shard)]

    def _keys_repeat(self) -> bool:
        if not repeats_keys(self._shards):
            return False
        names = [shard.path.stem for shard in self._shards]
        if len(set(names)) < len(names):
            raise ValueError(f"shards with the same name share keys, first '{self._shards[0].path}': rename them")
        return True

    def _fingerprint(self) -> str:
        """Hash of the shards' content, and of options that change what is read from it."""
        # Options are added only where they are not the default, so that fingerprints of older runs stay valid.
        parts = [*(shard.summary.digest for shard in self._shards), str(self._num_pairs)]
        parts += ["a caption a line"] if self.reading.lines_are_captions else []
        if self.task:
            numbers = [number for shard in self._shards for number in shard.summary.numbers]
            parts.append(f"classes {self.task.classes} {numbers}")
        parts += [f"skipped {name}" for name in sorted(self.reading.skipped_shards)]
        return sha256(" ".join(parts).encode()).hexdigest()


def _indices(paths: Sequence[Path], num_pairs: int, bad_shards: BadShards) -> tuple[list[ShardTable], dict[Path, str]]:
    """The indices of the shards, up to the one that completes ``num_pairs``; and why others are unusable."""
    found: list[ShardTable] = []
    missing = (path for path in paths if not (path.exists() or is_copy(path)))
    bad = {path: f"shard '{path}' is missing: copy it, or correct the range" for path in missing}
    existing = [path for path in paths if path not in bad]
    total = 0
    # Closed when enough pairs are found: later shards are not needed.
    with closing(shard_tables(existing)) as tables:
        for path, table in zip(with_bar(existing, "indexing shards", MANY_SHARDS), tables, strict=True):
            if isinstance(table, ValueError):
                bad[path] = str(table)
                continue
            found.append(table)
            total += 0 if table.summary.numbers else len(table)
            if num_pairs and total >= num_pairs:
                break
    if bad and (bad_shards == "refuse" or not found):
        raise refused_shards(list(bad.values()), len(paths), can_skip=bool(found))
    return found, bad


def _tally(counts: Iterable[CaptionCount], where: str) -> BadImageCount:
    """The captions of all shards, and the unusable ones."""
    tally = caption_tally(where)
    for one in counts:
        tally.num_seen += one.num_seen
        for reason, (count, first) in one.left_out.items():
            tally.reasons[reason] += count
            tally.examples.setdefault(reason, first)
    return tally


def _notes(shards: Sequence[ShardTable], bad: Mapping[Path, str], num_shards: int) -> Iterator[str]:
    if ignored := [shard for shard in shards if shard.summary.num_ignored]:
        count = sum(shard.summary.num_ignored for shard in ignored)
        yield f"left out {count} members of shards, first {ignored[0].path.name}: {ignored[0].summary.first_ignored}"
    yield skipped_shards(list(bad.values()), num_shards)


def _open_table(shard: ShardTable) -> RandomFile:
    opened = _open_copy if shard.is_copy else _open_shard
    return opened(shard.path, shard.summary.size, shard.summary.mtime_ns)


@lru_cache(MAX_OPEN_COPIES)
def _open_copy(path: Path, size: int, mtime_ns: int) -> RandomFile:
    """Opens the copy of a remote shard, which another process may delete at any time to make room."""
    for _ in range(MAX_COPIES):
        ensure_copied(path)
        if path.exists():
            break
    return _opened(path, size, mtime_ns)


@lru_cache(MAX_OPEN_SHARDS)  # a shard that falls out is closed with its last reader
def _open_shard(path: Path, size: int, mtime_ns: int) -> RandomFile:
    return _opened(path, size, mtime_ns)


def _opened(path: Path, size: int, mtime_ns: int) -> RandomFile:
    try:
        file = RandomFile(path)
    except OSError as error:
        raise ValueError(f"shard '{path}' can no longer be read ({error.strerror}): restore it") from error
    if (file.status.st_size, file.status.st_mtime_ns) != (size, mtime_ns):
        raise _has_changed(path)
    return file


def _has_changed(path: Path) -> ValueError:
    return ValueError(f"shard '{path}' has changed since it was indexed: start again")


def shard_paths(spec: str) -> list[Path]:
    """The shards of a path, folder or brace range, in order; some of a range may be missing, but not all."""
    paths = [Path(text).expanduser() for text in expand_ranges(spec)]
    if not any(path.exists() for path in paths):
        if len(paths) == 1:
            raise no_such_path(paths[0])
        raise ValueError(f"{len(paths)} of {len(paths)} shards of '{spec}' are missing, first '{paths[0]}'")
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted(paths[0].glob("*.tar"))
        if not found:
            raise _no_shards(paths[0])
        return found
    for path in paths:
        if path.suffix != ".tar" or (path.exists() and not path.is_file()):
            raise ValueError(f"'{path}' is not a .tar file: a SPEC is {FORMS}")
    return paths


def _no_shards(folder: Path) -> ValueError:
    """The error for a folder without shards; suggests a sub-folder that has some, such as a split."""
    splits = sorted({file.parent.name for file in folder.glob("*/*.tar")}, key=lambda name: (name != "train", name))
    remedy = f"give one of its folders, such as {folder / splits[0]}" if splits else f"a SPEC is {FORMS}"
    return ValueError(f"no .tar files in the folder '{folder}': {remedy}")
