"""``SPEC*2 + SPEC*1``: several datasets, each with a fixed share of every batch."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from workbench.config.mixture import Part
from workbench.data.dataset import Dataset, Sample, SampleText, Source
from workbench.data.order import largest_remainder
from workbench.data.unusable import ImageError, joined


def split_pairs(num_pairs: int, parts: Sequence[Part]) -> list[int]:
    """How many pairs each part contributes, in proportion to the ratios; 0 for all."""
    if not num_pairs:
        return [0] * len(parts)
    numbers = largest_remainder(num_pairs, [part.ratio for part in parts])
    if not all(numbers):
        raise ValueError(f"{num_pairs} pairs leave none for a part of the mixture: ask for more, or mix fewer parts")
    return numbers


class Mixture(Dataset):
    """Concatenated datasets. Keys and groups get the number of their part as prefix, which makes them unique."""

    def __init__(self, parts: Sequence[Dataset], ratios: Sequence[float]) -> None:
        self.parts, self.ratios = tuple(parts), tuple(ratios)
        self._ends = list(accumulate(map(len, parts)))
        self.reading = joined(part.reading for part in parts)
        # Without the ratios: they change which samples a batch has, not what the data are.
        self.fingerprint = sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        number, inner = self._locate(index)
        try:
            sample = self.parts[number][inner]
        except ImageError as error:
            raise error.at(f"part {number + 1} of the mixture") from error
        return replace(sample, key=_named(number, sample.key), group=_named(number, sample.group))

    def text(self, index: int) -> SampleText:
        number, inner = self._locate(index)
        text = self.parts[number].text(inner)
        return replace(text, key=_named(number, text.key), group=_named(number, text.group))

    def encoded(self, index: int) -> bytes:
        number, inner = self._locate(index)
        return self.parts[number].encoded(inner)

    def stamp(self) -> str:
        return sha256(" ".join(part.stamp() for part in self.parts).encode()).hexdigest()

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        number, inner = self._locate(index)
        return self.parts[number].tokens(inner, caption, tokenizer_id)

    @property
    def shard_sizes(self) -> tuple[Sequence[int], ...]:
        return tuple(part.shard_sizes[0] for part in self.parts)

    def probed(self, count: int) -> list[int]:
        starts = [0, *self._ends]
        counts = largest_remainder(count, [len(part) for part in self.parts])
        each = zip(starts, self.parts, counts, strict=False)
        return [start + index for start, part, number in each if number for index in part.probed(number)]

    def will_need(self, samples: range) -> None:
        for start, part in zip([0, *self._ends], self.parts, strict=False):
            inside = range(max(samples.start - start, 0), min(samples.stop - start, len(part)))
            if inside:
                part.will_need(inside)

    @property
    def sources(self) -> tuple[Source, ...]:
        starts = [0, *self._ends]
        return tuple(
            Source(start, len(part), ratio) for start, part, ratio in zip(starts, self.parts, self.ratios, strict=False)
        )

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        number = bisect_right(self._ends, index)
        return number, index - self._ends[number] + len(self.parts[number])


def map_parts(dataset: Dataset, function: Callable[[Dataset, float], Dataset]) -> Dataset:
    """A mixture with each part replaced by ``function(part, share of a batch)``; else ``function(dataset, 1)``."""
    if not isinstance(dataset, Mixture):
        return function(dataset, 1.0)
    total = sum(dataset.ratios)
    parts = [function(part, ratio / total) for part, ratio in zip(dataset.parts, dataset.ratios, strict=True)]
    mixture = Mixture(parts, dataset.ratios)
    mixture.name = dataset.name
    return mixture


def _named(number: int, name: str) -> str:
    return f"{number + 1}/{name}"
