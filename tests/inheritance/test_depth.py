"""Which layers stay, by every rule."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.inheritance import TowerPlan
from workbench.inheritance.depth import choose_layers

FLAT = [1.0] * 40


def layers(num_layers, depth, rule="even", scores=FLAT):
    return choose_layers(TowerPlan(depth=depth, depth_rule=rule), num_layers, scores[:num_layers])


@pytest.mark.parametrize(
    ("num_layers", "kept", "expected"),
    [
        (12, 8, range(8)),  # the step is 1, so the last layers go: Table 11's case
        (12, 9, range(9)),
        (9, 6, range(6)),
        (12, 6, range(0, 12, 2)),
        (12, 4, range(0, 12, 3)),
        (12, 5, (0, 2, 4, 6, 8)),
        (12, 1, (0,)),
    ],
)
def test_the_released_stride(num_layers, kept, expected):
    assert layers(num_layers, kept, "released_stride") == tuple(expected)


@pytest.mark.parametrize(
    ("num_layers", "kept", "expected"),
    [(12, 2, (0, 11)), (12, 3, (0, 6, 11)), (12, 8, (0, 2, 3, 5, 6, 8, 9, 11)), (5, 4, (0, 1, 3, 4)), (4, 1, (0,))],
)
def test_even_is_truly_spread(num_layers, kept, expected):
    assert layers(num_layers, kept) == expected


@given(st.integers(2, 40), st.data())
def test_even_reaches_from_the_first_to_the_last_in_steps_that_differ_by_one_at_most(num_layers, data):
    kept = data.draw(st.integers(2, num_layers))
    chosen = layers(num_layers, kept)
    steps = [after - before for before, after in pairwise(chosen)]
    assert (chosen[0], chosen[-1], len(chosen)) == (0, num_layers - 1, kept)
    assert min(steps) >= 1
    assert max(steps) - min(steps) <= 1


def test_the_first_the_last_a_list_and_the_loudest():
    assert layers(6, 2, "first") == (0, 1)
    assert layers(6, 2, "last") == (4, 5)
    assert layers(6, [1, 2, 5]) == (1, 2, 5)
    assert layers(6, 3, "importance", [0.1, 5, 3, 0.2, 4, 0]) == (1, 2, 4)
    assert layers(4, 2, "importance") == (0, 1)  # of equal ones the first


@pytest.mark.parametrize(("depth", "kept"), [(0, 12), (0.5, 6), (0.99, 12), (0.01, 1), (12, 12)])
def test_amounts_are_numbers_or_shares(depth, kept):
    assert len(layers(12, depth)) == kept


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (13, "depth 13: the teacher has 12 layers, choose 1 to 12"),
        ([0, 12], "depth names layer 12: the teacher has layers 0 to 11"),
        ([3, 1], r"depth names layers \[3, 1\]: name each once, in ascending order"),
        ([1, 1], r"depth names layers \[1, 1\]: name each once, in ascending order"),
    ],
)
def test_layers_that_are_not_there_are_refused(depth, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        layers(12, depth)
