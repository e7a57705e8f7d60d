"""What a look at some pictures of a data set shows: sizes, copies, and which cannot be used and why."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

from PIL import Image

from workbench.data.bar import with_bar
from workbench.data.look_ahead import look_ahead
from workbench.data.picture_error import PictureError
from workbench.data.sample import Dataset, Sample
from workbench.data.unusable import Tally
from workbench.embeddings import Replaced

Found = TypeVar("Found")

MANY_PICTURES = 200
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
    tally: Tally = field(default_factory=Tally)

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
    for _, seen in each_picture(dataset, indices, _facts):
        if isinstance(seen, Replaced):
            found.tally.add(1, [seen])
            continue
        key, size, digest = seen
        found.tally.add(1, [])
        found.sizes.append(size)
        keys.setdefault(digest, []).append(key)
    found.copies.extend(sorted((same for same in keys.values() if len(same) > 1), key=len, reverse=True))
    return found


def each_picture(
    dataset: Dataset, indices: Sequence[int], ask: Callable[[Sample], Found]
) -> Iterator[tuple[int, Found | Replaced]]:
    """What is asked of each picture, or why it cannot be used; in order, by several threads, with a bar if many."""

    def answer(index: int) -> Found | Replaced:
        try:
            return ask(dataset[index])
        except PictureError as error:
            return Replaced(error.reason, str(error))

    num_threads = min(MAX_THREADS, os.cpu_count() or 1)
    answers = look_ahead(answer, indices, num_threads=num_threads, depth=2 * num_threads)
    return zip(with_bar(indices, "looking at pictures", MANY_PICTURES), answers, strict=True)


def _facts(sample: Sample) -> tuple[str, tuple[int, int], bytes]:
    return sample.key, sample.image.size, _digest(sample.image)


def _digest(image: Image.Image) -> bytes:
    return sha256(repr(image.size).encode() + image.tobytes()).digest()
