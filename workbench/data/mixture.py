"""``SPEC*2 + SPEC*1``: several data sets, each with its part of every batch."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.data.dataset import Dataset, Sample, SampleText, Source
from workbench.data.order import largest_remainder
from workbench.data.unusable import ImageError, joined

_PLUS = re.compile(r"\s+\+\s+")
_RATIO = re.compile(r"(?P<spec>.+?)\s*\*\s*(?P<ratio>[^*/\s]+)")


class Part(NamedTuple):
    """A data set of a mixture, and its part of every batch in proportion to the others'."""

    spec: str
    ratio: float


def mixture_parts(spec: str) -> list[Part]:
    """The parts of a mixture; none where the SPEC is no mixture.

    A part without a ratio counts as 1. A path that exists is no mixture, whatever its name.

    Raises:
        ValueError: a ratio that is no positive number.
    """
    pieces = _PLUS.split(spec.strip())
    if len(pieces) < 2 or Path(spec).exists():
        return []
    return [_part(piece) for piece in pieces]


def _part(piece: str) -> Part:
    match = _RATIO.fullmatch(piece)
    if match is None or Path(piece).exists():
        return Part(piece, 1.0)
    try:
        ratio = float(match["ratio"])
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < float("inf"):
        raise ValueError(f"'*{match['ratio']}' is no ratio: a mixture is 'SPEC*2 + SPEC*1', with numbers above 0")
    return Part(match["spec"], ratio)


def open_mixture(
    parts: Sequence[Part], open_part: Callable[[str, int, float], Dataset], num_pairs: int = 0
) -> "Mixture":
    """The data sets of some parts as one.

    Args:
        open_part: SPEC, number of pairs and share of every batch to data set.
        num_pairs: how many pairs at most, divided by the ratios; 0 for all.
    """
    ratios = [part.ratio for part in parts]
    numbers = largest_remainder(num_pairs, ratios) if num_pairs else [0] * len(parts)
    if num_pairs and not all(numbers):
        raise ValueError(f"{num_pairs} pairs leave none for a part of the mixture: ask for more, or mix fewer parts")
    opened = [
        open_part(part.spec, number, part.ratio / sum(ratios)) for part, number in zip(parts, numbers, strict=True)
    ]
    return Mixture(opened, ratios)


class Mixture(Dataset):
    """Several data sets, one after another; keys and groups carry the number of their part, and so are unique."""

    def __init__(self, parts: Sequence[Dataset], ratios: Sequence[float]) -> None:
        self._parts = tuple(parts)
        self._ratios = tuple(ratios)
        self._ends = list(accumulate(map(len, parts)))
        self.reading = joined(part.reading for part in parts)
        self.fingerprint = sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample; see :class:`~workbench.data.dataset.Dataset`."""
        number, inner = self._locate(index)
        try:
            sample = self._parts[number][inner]
        except ImageError as error:
            raise error.at(f"part {number + 1} of the mixture") from error
        return replace(sample, key=_named(number, sample.key), group=_named(number, sample.group))

    def text(self, index: int) -> SampleText:
        """One sample without its picture, from memory."""
        number, inner = self._locate(index)
        text = self._parts[number].text(inner)
        return replace(text, key=_named(number, text.key), group=_named(number, text.group))

    def encoded(self, index: int) -> bytes:
        """The file of one sample's picture; see :class:`~workbench.data.dataset.Dataset`."""
        number, inner = self._locate(index)
        return self._parts[number].encoded(inner)

    def stamp(self) -> str:
        """That of all parts."""
        return sha256(" ".join(part.stamp() for part in self._parts).encode()).hexdigest()

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        """One of a sample's captions as tokens, where the part keeps them."""
        number, inner = self._locate(index)
        return self._parts[number].tokens(inner, caption, tokenizer_id)

    @property
    def sources(self) -> tuple[Source, ...]:
        starts = [0, *self._ends]
        return tuple(
            Source(start, len(part), ratio)
            for start, part, ratio in zip(starts, self._parts, self._ratios, strict=False)
        )

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        number = bisect_right(self._ends, index)
        return number, index - self._ends[number] + len(self._parts[number])


def _named(number: int, name: str) -> str:
    return f"{number + 1}/{name}"
