"""Holm's correction against closed testing, and words against what they stand for."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.statistics.intervals import Gain
from workbench.statistics.verdict import holm, verdict, verdicts


def closed_testing(p_values: list[float], which: int) -> float:
    """The largest Bonferroni p-value of any set of hypotheses with this one in it: what Holm is a shortcut for."""
    others = [p for place, p in enumerate(p_values) if place != which]
    sets = itertools.chain.from_iterable(itertools.combinations(others, size) for size in range(len(p_values)))
    return max(min(1.0, (1 + len(rest)) * min(p_values[which], *rest, 1.0)) for rest in sets)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing(p_values):
    assert holm(p_values) == pytest.approx([closed_testing(p_values, which) for which in range(len(p_values))])


def gain(mean: float, num_seeds: int = 3) -> Gain:
    return Gain(mean, mean - 1, mean + 1, (mean,) * num_seeds, "seeds")


@pytest.mark.parametrize(
    ("mean", "p_value", "higher_is_better", "said"),
    [
        (0.1, 0.01, True, "better"),
        (-0.1, 0.01, True, "worse"),
        (0.1, 0.01, False, "worse"),
        (-0.1, 0.01, None, "lower"),
        (0.1, 0.05, True, "no difference seen"),
    ],
)
def test_a_verdict_follows_the_better_direction(mean, p_value, higher_is_better, said):
    assert verdict(gain(mean), p_value, higher_is_better) == said


def test_one_seed_gets_no_verdict_and_costs_the_others_nothing():
    found = verdicts({"a": gain(0.2), "b": gain(0.3, 1)}, {"a": 0.04, "b": 0.0}, True)
    assert found == {"a": (0.04, "better"), "b": (1.0, "not enough seeds")}
    assert verdicts({"a": gain(0.2), "b": gain(0.3)}, {"a": 0.04, "b": 0.5}, True)["a"] == (
        pytest.approx(0.08),
        "no difference seen",
    )
