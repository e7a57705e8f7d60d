"""Data without the pictures that cannot be decoded, for measuring, where none can take another's place."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from PIL import Image

from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.parallel import look_ahead
from workbench.data.unusable import BadImageCount, ImageError
from workbench.embeddings import BadImage
from workbench.files import write_atomically
from workbench.progress import with_bar
from workbench.resources import cache_dir

# What a look at some pictures of a data set shows: sizes, copies, and which cannot be used and why.

Found = TypeVar("Found")

MANY_IMAGES = 200
MAX_THREADS = 8


@dataclass(frozen=True)
class Pictures:
    """Some pictures, looked at.

    Attributes:
        sizes: width and height of each, in pixels.
        copies: keys of the pictures that are the same in every pixel, a list for each such picture.
        tally: those that cannot be used.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    tally: BadImageCount = field(default_factory=BadImageCount)

    @property
    def num_copies(self) -> int:
        """Pictures beyond the first of those that are the same."""
        return sum(len(keys) - 1 for keys in self.copies)

    def check(self) -> None:
        """Refuses pictures from which nothing can be learnt.

        Raises:
            ValueError: too many cannot be used, or all are the same.
        """
        self.tally.check()
        if len(self.sizes) > 1 and self.num_copies == len(self.sizes) - 1:
            raise ValueError(
                f"the {len(self.sizes):,} pictures looked at are one and the same (such as "
                f"{', '.join(map(repr, self.copies[0][:3]))}): check how they were downloaded or copied"
            )


def look_at(dataset: Dataset, indices: Sequence[int]) -> Pictures:
    """Decodes some pictures."""
    found = Pictures()
    keys: dict[bytes, list[str]] = {}
    for _, seen in each_image(dataset, indices, _facts):
        if isinstance(seen, BadImage):
            found.tally.add(1, [seen])
            continue
        key, size, digest = seen
        found.tally.add(1, [])
        found.sizes.append(size)
        keys.setdefault(digest, []).append(key)
    found.copies.extend(sorted((same for same in keys.values() if len(same) > 1), key=len, reverse=True))
    return found


def each_image(
    dataset: Dataset, indices: Sequence[int], ask: Callable[[Sample], Found]
) -> Iterator[tuple[int, Found | BadImage]]:
    """What is asked of each picture, or why it cannot be used; in order, by several threads, with a bar if many."""

    def answer(index: int) -> Found | BadImage:
        try:
            return ask(dataset[index])
        except ImageError as error:
            return BadImage(error.reason, str(error))

    num_threads = min(MAX_THREADS, os.cpu_count() or 1)
    answers = look_ahead(answer, indices, num_threads=num_threads, depth=2 * num_threads)
    return zip(with_bar(indices, "looking at pictures", MANY_IMAGES), answers, strict=True)


def _facts(sample: Sample) -> tuple[str, tuple[int, int], bytes]:
    return sample.key, sample.image.size, _digest(sample.image)


def _digest(image: Image.Image) -> bytes:
    return sha256(repr(image.size).encode() + image.tobytes()).digest()


class Subset(Dataset):
    """Some samples of a data set, in their order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, indices
        self.fingerprint = dataset.fingerprint
        self.describe_like(dataset)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def text(self, index: int) -> SampleText:
        return self._dataset.text(self._indices[index])

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(self._indices[index])

    def stamp(self) -> str:
        return self._dataset.stamp()


def readable(dataset: Dataset) -> tuple[Dataset, str]:
    """The data set without the pictures that cannot be used, and a line about those; itself and "" if there are none.

    Every picture is decoded once. The broken ones are remembered by the data's fingerprint, and only they are tried
    anew the next time.

    Raises:
        ValueError: too many cannot be used; see :class:`~workbench.data.unusable.Tally`.
    """
    entry = cache_dir() / "readable" / f"{dataset.fingerprint}.json"
    known = _load(entry, len(dataset))
    broken = unusable(dataset, range(len(dataset)) if known is None else known)
    if known is None:
        _store(entry, list(broken))
    if not broken:
        return dataset, ""
    tally = BadImageCount()
    tally.add(len(dataset), broken.values())
    tally.check()
    kept = [index for index in range(len(dataset)) if index not in broken]
    return Subset(dataset, kept), f"pictures that cannot be used are not measured: {tally.describe()}"


def unusable(dataset: Dataset, indices: Sequence[int]) -> dict[int, BadImage]:
    """Those of the samples whose pictures cannot be used."""
    return {index: found for index, found in each_image(dataset, indices, _nothing) if isinstance(found, BadImage)}


def _nothing(_: Sample) -> None:
    """All that is asked of a picture here is that it can be decoded."""


def _load(entry: Path, num_samples: int) -> list[int] | None:
    """The broken ones of an earlier look; None where there was none, or its note is torn."""
    try:
        indices: list[int] = json.loads(entry.read_bytes())
        return indices if all(0 <= index < num_samples for index in indices) else None
    except (OSError, ValueError, TypeError):
        return None


def _store(entry: Path, indices: list[int]) -> None:
    """Keeps them; where nothing can be written, all images are decoded again the next time."""
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(entry, json.dumps(indices))
