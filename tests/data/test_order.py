"""The samples of a step: each once per epoch, and a mixture's ratio in every batch."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.dataset import Dataset, Source
from workbench.data.order import Order, epoch_order, largest_remainder


class Sized(Dataset):
    """Nothing but sources of some sizes and ratios."""

    def __init__(self, *parts: tuple[int, float]) -> None:
        starts = np.cumsum([0, *(size for size, _ in parts)]).tolist()
        self.fingerprint = ""
        self._end = starts[-1]
        self._sources = tuple(Source(start, *part) for start, part in zip(starts, parts, strict=False))

    def __len__(self) -> int:
        return self._end

    @property
    def sources(self) -> tuple[Source, ...]:
        return self._sources


def samples(order: Order, step: int) -> list[int]:
    return [row.sample for row in order.rows(step)]


@pytest.mark.parametrize("num_samples", [1, 7, 1000])
def test_an_order_is_a_permutation(num_samples: int) -> None:
    orders = [epoch_order(num_samples, 0, epoch, source) for epoch, source in ((0, 0), (1, 0), (0, 1))]
    for order_N in orders:
        assert sorted(order_N.tolist()) == list(range(num_samples))
        with pytest.raises(ValueError, match="read-only"):
            order_N[0] = 5  # it is kept and shared
    assert num_samples == 1 or len({tuple(order_N) for order_N in orders}) == 3


def test_an_epoch_goes_through_the_data_once_and_drops_the_tail() -> None:
    order = Order(Sized((23, 1.0)), 5, 3)
    epochs = [
        [index for step in range(4 * epoch, 4 * epoch + 4) for index in samples(order, step)] for epoch in range(9)
    ]
    assert all(len(set(indices)) == 20 for indices in epochs)
    assert len({tuple(indices) for indices in epochs}) == 9
    assert len({index for indices in epochs for index in indices}) == 23
    assert samples(order, 0) != samples(Order(Sized((23, 1.0)), 5, 4), 0)
    assert [order.rows(4 * epoch)[0].view for epoch in range(3)] == [0, 1, 2]
    assert [Order(Sized((23, 1.0)), 5, 3, 2).rows(4 * epoch)[0].view for epoch in range(3)] == [0, 1, 0]


def test_steps_are_random_access() -> None:
    dataset = Sized((23, 2.0), (40, 1.0), (9, 1.0))
    order = Order(dataset, 8, 0)
    forward = [order.rows(step) for step in range(40)]
    for step in (39, 0, 17, 3):
        assert order.rows(step) == forward[step] == Order(dataset, 8, 0).rows(step)


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(24, 60), st.sampled_from([0.5, 1.0, 2.0, 3.0])), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_every_batch_has_the_ratio_and_every_source_its_epochs(parts: list[tuple[int, float]], seed: int) -> None:
    dataset = Sized(*parts)
    order = Order(dataset, 24, seed)
    shown: dict[tuple[int, int], list[int]] = {}
    for step in range(12):
        rows = order.rows(step)
        assert len(rows) == 24
        counts = Counter(dataset.sources.index(row.source) for row in rows)
        assert [counts[number] for number in range(len(parts))] == order.counts
        for row in rows:
            assert 0 <= row.sample - row.source.start < row.source.num_samples
            shown.setdefault((dataset.sources.index(row.source), row.view), []).append(row.sample)
    total = sum(ratio for _, ratio in parts)
    assert all(abs(count - 24 * ratio / total) < 1 for count, (_, ratio) in zip(order.counts, parts, strict=True))
    assert all(len(set(indices)) == len(indices) for indices in shown.values())  # once an epoch


def test_a_source_in_a_mixture_keeps_its_order_as_the_first() -> None:
    """So that adding a second source reshuffles nothing."""
    alone, mixed = Order(Sized((20, 1.0)), 4, 7), Order(Sized((20, 1.0), (20, 1.0)), 8, 7)
    for step in range(12):
        assert samples(mixed, step)[:4] == samples(alone, step)
        assert [index - 20 for index in samples(mixed, step)[4:]] != samples(alone, step)


@pytest.mark.parametrize(
    ("parts", "batch_size", "message"),
    [
        ([(23, 1.0)], 24, "a batch of 24 needs as many pairs, but the data have 23: lower train.batch_size"),
        ([(50, 2.0), (5, 1.0)], 24, "a batch of 24 takes 8 pairs of part 2 of the mixture, which has 5: change"),
        ([(50, 99.0), (50, 1.0)], 24, "a batch of 24 takes 0 pairs of part 2 of the mixture"),
    ],
)
def test_data_that_do_not_fill_a_batch_are_refused(
    parts: list[tuple[int, float]], batch_size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Order(Sized(*parts), batch_size, 0)


@pytest.mark.parametrize(
    ("total", "ratios", "shares"),
    [
        (128, [2, 1], [85, 43]),
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [1], [7]),
        (100, [0.5, 0.25, 0.25], [50, 25, 25]),
        (3, [100, 1], [3, 0]),
    ],
)
def test_shares(total: int, ratios: list[float], shares: list[int]) -> None:
    assert largest_remainder(total, ratios) == shares


@given(total=st.integers(0, 10_000), ratios=st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_shares_add_up_and_are_off_by_less_than_one(total: int, ratios: list[int]) -> None:
    shares = largest_remainder(total, ratios)
    assert sum(shares) == total
    exact = [Fraction(total * ratio, sum(ratios)) for ratio in ratios]
    assert all(abs(share - one) < 1 for share, one in zip(shares, exact, strict=True))


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(24, 90), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=3),
    window=st.integers(1, 100),
    start=st.integers(0, 20),
)
def test_with_windows_a_run_may_start_anywhere_and_samples_are_announced(
    parts: list[tuple[int, float]], window: int, start: int
) -> None:
    dataset = Sized(*parts)
    order, resumed = Order(dataset, 24, 1, window=window), Order(dataset, 24, 1, window=window)
    announced: set[int] = set()
    for step in range(start, start + 12):
        for place in resumed.needed(step, is_first=step == start):
            announced.update(place)
        rows = resumed.rows(step)
        assert rows == order.rows(step)
        assert {row.sample for row in rows} <= announced
    for number, (source, count) in enumerate(zip(dataset.sources, order.counts, strict=True)):
        steps = source.num_samples // count
        epoch = [row.sample for step in range(steps) for row in order.rows(step) if row.source == source]
        assert len(set(epoch)) == len(epoch) == steps * count
        assert set(epoch) <= set(range(source.start, source.start + source.num_samples)), number


def test_without_windows_nothing_is_announced() -> None:
    assert list(Order(Sized((50, 1.0)), 10, 0).needed(0, is_first=True)) == []


def test_a_window_is_announced_once_while_the_one_before_is_read() -> None:
    order = Order(Sized((1000, 1.0)), 50, 0, window=100)
    lengths = [sum(map(len, order.needed(step, is_first=step == 0))) for step in range(20)]
    assert lengths[0] == 200
    assert lengths[1:] == [0, *[100, 0] * 8, 0, 0]
    assert sum(map(len, order.needed(7, is_first=True))) == 200
