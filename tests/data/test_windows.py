"""Windows of permuted shards: every pair once an epoch, any part without the rest, and how well it mixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from workbench.data.windows import PIECE, WindowOrder

SHARDS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum)


@st.composite
def orders(draw: st.DrawFn) -> WindowOrder:
    sizes = draw(st.one_of(st.just([]), SHARDS))
    num_samples = draw(st.integers(1, sum(sizes) or 3000))
    return WindowOrder(
        sizes, num_samples, draw(st.integers(1, 60)), draw(st.integers(0, 5)), draw(st.integers(0, 5)), 0
    )


@settings(deadline=None)
@given(order=orders())
def test_an_epoch_has_every_sample_once(order: WindowOrder) -> None:
    assert np.array_equal(np.sort(order[:]), np.arange(len(order)))


@settings(deadline=None)
@given(order=orders(), cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_any_part_is_that_of_the_whole(order: WindowOrder, cuts: list[tuple[float, float]]) -> None:
    whole = order[:].tolist()
    for cut in cuts:  # forwards and backwards
        start, stop = sorted(round(share * len(order)) for share in cut)
        assert order[start:stop].tolist() == whole[start:stop]


@settings(deadline=None)
@given(sizes=SHARDS, window=st.integers(1, 60), seed=st.integers(0, 9))
def test_a_window_reads_successive_pieces_from_their_beginning_to_their_end(
    sizes: list[int], window: int, seed: int
) -> None:
    order = WindowOrder(sizes, sum(sizes), window, seed, 3)
    read: list[int] = []
    for number in order.windows(0, len(order)):
        places = list(order.places(number))
        samples = [index for place in places for index in place]
        assert sorted(order[number * window : (number + 1) * window].tolist()) == sorted(samples)
        read += samples
    assert sorted(read) == list(range(sum(sizes)))
    # A sample follows its predecessor, unless a piece begins: at a shard, or at every window's length within one.
    starts = np.cumsum([0, *sizes])
    pieces = {start + cut for start, size in zip(starts, sizes, strict=False) for cut in range(0, size, window)}
    assert {index for before, index in zip([-1, *read], read, strict=False) if index != before + 1} <= pieces
    assert list(order.places(len(order))) == []


def test_epochs_seeds_and_sources_have_orders_of_their_own() -> None:
    made = [WindowOrder([50] * 20, 1000, 100, seed, *keys) for seed, *keys in ((0, 0), (1, 0), (0, 1), (0, 0, 1))]
    assert len({tuple(order[:].tolist()) for order in made}) == 4
    assert WindowOrder([50] * 20, 1000, 100, 0, 0)[:].tolist() == made[0][:].tolist()


def test_data_without_shards_are_cut_into_pieces() -> None:
    order = WindowOrder([], 10 * PIECE + 5, 2 * PIECE, 0, 0)
    lengths = sorted(len(place) for number in range(6) for place in order.places(number))
    assert sum(lengths) == 10 * PIECE + 5
    assert max(lengths) == PIECE
    pieces = {int(index) // PIECE for index in order[: 2 * PIECE]}
    assert len(pieces) in (2, 3)


SIZE, NUM_SHARDS, WINDOW, BATCH = 50, 40, 400, 40


def test_over_epochs_a_sample_is_anywhere_and_meets_any_other() -> None:
    """Positions are uniform; samples of two shards share a batch about as often as in a full shuffle."""
    num_samples, num_epochs = SIZE * NUM_SHARDS, 400
    positions, same_shard, other_shard = [], 0, 0
    for epoch in range(num_epochs):
        order_N = WindowOrder([SIZE] * NUM_SHARDS, num_samples, WINDOW, 0, epoch)[:]
        place_N = np.argsort(order_N)
        positions.append(int(place_N[7]))
        batch_N = place_N // BATCH
        same_shard += int((batch_N[:SIZE] == batch_N[7]).sum()) - 1
        other_shard += int((batch_N[SIZE:] == batch_N[7]).sum())
    assert kstest(np.array(positions) / num_samples, "uniform").pvalue > 1e-3
    # Of the 39 others of a batch: N / W times as many of one's own shard as chance would have it, and the rest of any.
    shuffled = num_epochs * (BATCH - 1) / (num_samples - 1)
    assert same_shard / (SIZE - 1) == pytest.approx(shuffled * num_samples / WINDOW, rel=0.2)
    assert other_shard / (num_samples - SIZE) == pytest.approx(shuffled, rel=0.15)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_within_a_window_batches_draw_from_all_its_shards(seed: int) -> None:
    order = WindowOrder([SIZE] * NUM_SHARDS, SIZE * NUM_SHARDS, WINDOW, seed, 0)
    shards = order[:WINDOW] // SIZE
    counts = [
        [int((shards[start : start + BATCH] == shard).sum()) for shard in set(shards.tolist())] for start in (0, 360)
    ]
    for of_shards in counts:
        assert len(of_shards) == WINDOW // SIZE
        assert sum(of_shards) == BATCH
        assert chisquare(of_shards).pvalue > 1e-6
