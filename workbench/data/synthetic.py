"""Synthetic captions, which a model has written for an image, as further captions with a weight of their own."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

from workbench.data.dataset import Dataset, DatasetView, Sample, SampleText
from workbench.data.mixture import map_parts
from workbench.randomness import derive_seed

T = TypeVar("T", bound=SampleText)
RESOLUTION = 2**63  # of a random draw, the range of derive_seed


class WithSynthetic(DatasetView):
    """A dataset whose synthetic captions are captions: the last ones of each sample, ``num_synthetic`` many."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.fingerprint = sha256(f"{dataset.fingerprint} and {dataset.synthetic_digest}".encode()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        return _joined(self._dataset[index])

    def text(self, index: int) -> SampleText:
        return _joined(self._dataset.text(index))

    @property
    def shard_sizes(self) -> Sequence[Sequence[int]]:
        return self._dataset.shard_sizes

    def will_need(self, samples: range) -> None:
        self._dataset.will_need(samples)


def with_synthetic(dataset: Dataset, weight: float) -> Dataset:
    """The dataset, or each part of a mixture, with its synthetic captions; unchanged if their weight is 0.

    Raises:
        ValueError: the data have none.
    """
    found = []

    def of_part(part: Dataset, _share: float) -> Dataset:
        if not part.synthetic_digest:
            return part
        found.append(part)
        return WithSynthetic(part)

    joined = map_parts(dataset, of_part) if weight else dataset
    if weight and not found:
        raise ValueError(
            f"data.synthetic_captions is {weight:g}, but these data have none: they are read from KEY.syn.json next to "
            "KEY.jpg in tar shards; set it to 0"
        )
    return joined


def choose_caption(text: SampleText, view: int, seed: int, weight: float = 0.0) -> int:
    """Index of the caption that a view of a sample has, a function of seed, key and view alone.

    Args:
        weight: probability of a synthetic caption, where the sample has one; else one of its own. Within either kind,
            all are equally likely.
    """
    num_own = len(text.captions) - text.num_synthetic
    if len(text.captions) == 1:  # most data: nothing to draw
        return 0
    if text.num_synthetic and derive_seed(seed, "synthetic caption", text.key, view) < weight * RESOLUTION:
        return num_own + derive_seed(seed, "caption", text.key, view) % text.num_synthetic
    return derive_seed(seed, "caption", text.key, view) % num_own


def _joined(text: T) -> T:
    captions, number = (*text.captions, *text.synthetic), len(text.synthetic)
    return replace(text, captions=captions, num_synthetic=number, synthetic=())
