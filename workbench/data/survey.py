"""Decodes images to find sizes, duplicates and unusable ones; leaves unusable images out of evaluation sets."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.data.dataset import Dataset, DatasetView, Sample, SampleText
from workbench.data.parallel import look_ahead, or_bad_image
from workbench.data.unusable import BadImageCount
from workbench.embeddings import BadImage
from workbench.files import write_atomically
from workbench.progress import with_bar
from workbench.resources import cache_dir

Found = TypeVar("Found")

MANY_IMAGES = 200


@dataclass(frozen=True)
class ImageSurvey:
    """Facts about the decoded images of a dataset.

    Attributes:
        sizes: width and height of each, in pixels.
        copies: groups of keys whose images are equal in every pixel.
        tally: count of unusable images.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    tally: BadImageCount = field(default_factory=BadImageCount)

    @property
    def num_copies(self) -> int:
        """Number of images that repeat another one."""
        return sum(len(keys) - 1 for keys in self.copies)

    def check(self) -> None:
        """Refuses images that a model cannot learn from.

        Raises:
            ValueError: too many are unusable, or all are the same.
        """
        self.tally.check()
        if len(self.sizes) > 1 and self.num_copies == len(self.sizes) - 1:
            raise ValueError(
                f"all {len(self.sizes):,} checked images are the same (such as "
                f"{', '.join(map(repr, self.copies[0][:3]))}): check how they were downloaded or copied"
            )


def survey_images(dataset: Dataset, indices: Sequence[int]) -> ImageSurvey:
    """Decodes some images and compares their pixels."""
    found = ImageSurvey()
    keys: dict[bytes, list[str]] = {}
    for _, seen in each_image(dataset, indices, _facts):
        if isinstance(seen, BadImage):
            found.tally.add(1, [seen])
            continue
        key, size, digest = seen
        found.tally.add(1, [])
        found.sizes.append(size)
        keys.setdefault(digest, []).append(key)  # digests, not pixels: memory stays small for any number of images
    found.copies.extend(sorted((same for same in keys.values() if len(same) > 1), key=len, reverse=True))
    return found


def each_image(
    dataset: Dataset, indices: Sequence[int], function: Callable[[Sample], Found]
) -> Iterator[tuple[int, Found | BadImage]]:
    """(index, function(sample) or why the image is unusable), in order; several threads, a progress bar if many."""
    results = look_ahead(lambda index: or_bad_image(lambda: function(dataset[index])), indices)
    return zip(with_bar(indices, "decoding images", MANY_IMAGES), results, strict=True)


def _facts(sample: Sample) -> tuple[str, tuple[int, int], bytes]:
    return sample.key, sample.image.size, _digest(sample.image)


def _digest(image: Image.Image) -> bytes:
    return sha256(repr(image.size).encode() + image.tobytes()).digest()


class Subset(DatasetView):
    """Some samples of a dataset, in order. Same fingerprint: it stands for the data without their unusable images."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        super().__init__(dataset)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def text(self, index: int) -> SampleText:
        return self._dataset.text(self._indices[index])

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(self._indices[index])

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        return self._dataset.tokens(self._indices[index], caption, tokenizer_id)


def readable(dataset: Dataset) -> tuple[Dataset, str]:
    """The dataset without its unusable images, and a message about them; itself and "" if there are none.

    Every image is decoded once. The indices of unusable ones are cached by the dataset's fingerprint, and only these
    are tried again the next time.

    Raises:
        ValueError: too many are unusable; see :class:`~workbench.data.unusable.BadImageCount`.
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
    return Subset(dataset, kept), f"images that cannot be used are not evaluated: {tally.describe()}"


def unusable(dataset: Dataset, indices: Sequence[int]) -> dict[int, BadImage]:
    """The samples whose images cannot be used, by index."""
    return {index: found for index, found in each_image(dataset, indices, _nothing) if isinstance(found, BadImage)}


def _nothing(_: Sample) -> None:
    """Decoding alone is the test."""


def _load(entry: Path, num_samples: int) -> list[int] | None:
    """The cached indices of unusable images; None if there are none or the file is damaged."""
    try:
        indices: list[int] = json.loads(entry.read_bytes())
        return indices if all(0 <= index < num_samples for index in indices) else None
    except (OSError, ValueError, TypeError):
        return None


def _store(entry: Path, indices: list[int]) -> None:
    """Caches the indices. If the cache is not writable, all images are decoded again the next time."""
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(entry, json.dumps(indices))
