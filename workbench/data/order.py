"""Sampling order: the samples and views of every batch, a function of the data, the data seed and the step alone.

Shape letters: N samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

from workbench.data.dataset import Dataset, Source
from workbench.data.windows import Indices, WindowOrder, generator


def largest_remainder(total: int, ratios: Sequence[float]) -> list[int]:
    """Splits ``total`` in proportion to ``ratios`` into integers, by the largest remainder; ties go to the first.

    >>> largest_remainder(128, [2, 1])
    [85, 43]
    """
    # Not rounding each share: their sum would miss the batch size.
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [floor(share) for share in exact]
    losses = sorted(range(len(ratios)), key=lambda index: counts[index] - exact[index])
    for index in losses[: total - sum(counts)]:
        counts[index] += 1
    return counts


def epoch_order(num_samples: int, seed: int, epoch: int, source: int = 0) -> Indices:
    """The permutation of 0..N-1 that orders a source's samples in one epoch; read-only."""
    keys = (epoch, source) if source else (epoch,)  # source 0 has the order that it has alone
    order_N = generator(seed, "order", *keys).permutation(num_samples)
    order_N.flags.writeable = False
    return order_N


class BatchRow(NamedTuple):
    """A row of a batch: sample index, view, and the source that it is sampled from."""

    sample: int
    view: int
    source: Source


@dataclass(frozen=True)
class Order:
    """The rows of every batch.

    Each source has a fixed number of rows in every batch (largest remainder) and its own epochs: every epoch is a new
    permutation of its samples and drops the last incomplete batch.

    Args:
        views: number of reproducible views of a sample; epoch e uses view e modulo ``views``. 0: a new view each epoch.
        window: samples of a source that are shuffled together, see :mod:`workbench.data.windows`; 0 for all.

    Raises:
        ValueError: a source has fewer samples than its rows of one batch, or would have no rows.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    views: int = 0
    window: int = 0
    _newest: dict[int, tuple[int, Indices | WindowOrder]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        sources = self.dataset.sources
        if len(sources) == 1 and self.batch_size > len(self.dataset):
            raise ValueError(
                f"a batch of {self.batch_size} needs as many pairs, but the data have {len(self.dataset)}: "
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

    def rows(self, step: int) -> list[BatchRow]:
        """The rows of one step (from 0), source by source."""
        sources = enumerate(zip(self.dataset.sources, self.counts, strict=True))
        return [row for number, (source, count) in sources for row in self._source_rows(step, number, source, count)]

    def _source_rows(self, step: int, number: int, source: Source, count: int) -> Iterator[BatchRow]:
        epoch, batch = divmod(step, source.num_samples // count)
        order_N = self._order(source, number, epoch)
        # Epochs that share a view have equal images, so that teacher embeddings can be read instead of computed.
        view = epoch % self.views if self.views else epoch
        for index in order_N[batch * count : (batch + 1) * count].tolist():
            yield BatchRow(source.start + index, view, source)

    def needed(self, step: int, *, is_first: bool = False) -> Iterator[range]:
        """The samples to read ahead at a step: those of the window after its own, if the step before had another.

        Args:
            is_first: the first step of a run, which needs its own windows too.
        """
        for number, (source, count) in enumerate(zip(self.dataset.sources, self.counts, strict=True)):
            epoch, batch = divmod(step, source.num_samples // count)
            order = self._order(source, number, epoch)
            if not isinstance(order, WindowOrder):
                continue
            own = order.windows(batch * count, (batch + 1) * count)
            before = order.windows((batch - 1) * count, batch * count)
            for window in range(own.start if is_first or not batch else before.stop + 1, own.stop + 1):
                for place in order.places(window):
                    yield range(source.start + place.start, source.start + place.stop)

    def _order(self, source: Source, number: int, epoch: int) -> Indices | WindowOrder:
        """The source's order in an epoch. The newest is cached: a permutation of 10 million takes a second."""
        known = self._newest.get(number)
        if known is None or known[0] != epoch:
            known = self._newest[number] = (epoch, self._new_order(source, number, epoch))
        return known[1]

    def _new_order(self, source: Source, number: int, epoch: int) -> Indices | WindowOrder:
        if not self.window:
            return epoch_order(source.num_samples, self.seed, epoch, number)
        sizes = self.dataset.shard_sizes[number]
        return WindowOrder(sizes, source.num_samples, self.window, self.seed, epoch, number)
