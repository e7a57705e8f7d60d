"""Which samples a step takes, and which view of each: a function of the data, the data seed and the step alone.

Shape letters: N samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.data.dataset import Dataset, Source
from workbench.randomness import derive_seed

# A number of things divided in proportion, to whole numbers.


def largest_remainder(total: int, ratios: Sequence[float]) -> list[int]:
    """``total`` divided by ``ratios``, rounded down, and what is left to those that lost most; ties go to the first.

    >>> largest_remainder(128, [2, 1])
    [85, 43]
    """
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [floor(share) for share in exact]
    losses = sorted(range(len(ratios)), key=lambda index: counts[index] - exact[index])
    for index in losses[: total - sum(counts)]:
        counts[index] += 1
    return counts


Indices = npt.NDArray[np.int64]


def epoch_order(num_samples: int, seed: int, epoch: int, source: int = 0) -> Indices:
    """The order of a source's samples in one epoch: a permutation of 0..N-1 that depends on its arguments alone."""
    keys = (epoch, source) if source else (epoch,)
    order_N = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", *keys))).permutation(num_samples)
    order_N.flags.writeable = False
    return order_N


class Place(NamedTuple):
    """A row of a batch: which sample, which of its views, and the source that it comes from."""

    sample: int
    view: int
    source: Source


@dataclass(frozen=True)
class Order:
    """The rows of every batch.

    Each source has its part of every batch, rounded by largest remainder, and epochs of its own: every epoch goes
    through its samples in a new order, and leaves out those that do not fill its part of a last batch.

    Args:
        views: reproducible views of a sample; epoch e shows view e modulo ``views``. 0: always new ones.

    Raises:
        ValueError: a source does not fill its part of one batch, or the batch is too small for a part of each.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    views: int = 0
    _newest: dict[int, tuple[int, Indices]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sources = self.dataset.sources
        if len(sources) == 1 and self.batch_size > len(self.dataset):
            raise ValueError(
                f"a batch of {self.batch_size} needs as many pairs, and the data have {len(self.dataset)}: "
                "lower train.batch_size or give more data"
            )
        for number, (source, count) in enumerate(zip(sources, self.counts, strict=True), start=1):
            if not 0 < count <= source.num_samples:
                raise ValueError(
                    f"a batch of {self.batch_size} takes {count} pairs of part {number} of the mixture, which has "
                    f"{source.num_samples}: change train.batch_size or the ratio"
                )

    @property
    def counts(self) -> list[int]:
        """Rows of each source in every batch."""
        return largest_remainder(self.batch_size, [source.ratio for source in self.dataset.sources])

    def places(self, step: int) -> list[Place]:
        """The rows of one step, counted from 0, source by source."""
        sources = enumerate(zip(self.dataset.sources, self.counts, strict=True))
        return [place for number, (source, count) in sources for place in self._part(step, number, source, count)]

    def _part(self, step: int, number: int, source: Source, count: int) -> Iterator[Place]:
        epoch, turn = divmod(step, source.num_samples // count)
        order_N = self._order(source, number, epoch)
        view = epoch % self.views if self.views else epoch
        for index in order_N[turn * count : (turn + 1) * count].tolist():
            yield Place(source.start + index, view, source)

    def _order(self, source: Source, number: int, epoch: int) -> Indices:
        """The source's order in an epoch, the newest kept: to draw it takes a second for 10 million samples."""
        known = self._newest.get(number)
        if known is None or known[0] != epoch:
            known = self._newest[number] = (epoch, epoch_order(source.num_samples, self.seed, epoch, number))
        return known[1]
