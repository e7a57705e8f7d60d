"""Holm's correction against closed testing, and words against what they stand for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread, gain_on, pooled_spread
from workbench.statistics.verdict import POWER, detectable, holm, power, seeds_needed, verdict, verdicts


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


def test_the_detectable_difference_is_seen_four_times_in_five():
    num_cells, num_seeds, sigma = 4, 3, 0.01
    df = (num_cells - 1) * (num_seeds - 1)
    difference = detectable(Spread(math.sqrt(2) * sigma, df), num_seeds)
    generator, seen = np.random.default_rng(0), []
    for _ in range(1500):
        value_CS = sigma * generator.normal(size=(num_cells, num_seeds))
        value_CS[1] += difference
        values = {str(cell): dict(enumerate(row.tolist())) for cell, row in enumerate(value_CS)}
        spread = pooled_spread(values)
        found = gain_on(values, "0", "1", spread)
        seen.append(spread.p_value(found.mean, num_seeds) < 0.05)
    assert np.mean(seen) == pytest.approx(POWER, abs=0.035)


@example(difference=1.0, sd=0.0546875, df=6, num_seeds=7, num_tests=1)  # where scipy's noncentral t is NaN
@given(st.floats(0, 1), st.floats(1e-4, 1), st.integers(1, 30), st.integers(2, 20), st.integers(1, 10))
def test_it_is_a_chance_and_grows_with_the_difference(difference, sd, df, num_seeds, num_tests):
    spread = Spread(sd, df)
    small, large = (power(size, spread, num_seeds, num_tests=num_tests) for size in (difference, 1.5 * difference))
    assert 0 <= small <= large + 1e-6 <= 1 + 2e-6


def test_more_seeds_see_less_and_more_tests_see_worse():
    spread = Spread(0.01, 8)
    assert detectable(spread, 6) < detectable(spread, 3) < detectable(spread, 3, num_tests=5)
    assert power(detectable(spread, 3), spread, 3) == pytest.approx(POWER)


def test_the_seeds_needed_are_the_fewest_that_do():
    spread = Spread(0.012, 6)
    needed = seeds_needed(0.01, spread, 3, num_tests=3)
    assert needed is not None
    at = [power(0.01, Spread(0.012, 3 * (seeds - 1)), seeds, num_tests=3) for seeds in (needed - 1, needed)]
    assert at[0] < POWER <= at[1]


def test_without_degrees_of_freedom_power_is_unknown():
    nothing = Spread(math.nan, 0)
    assert detectable(nothing, 1) == math.inf
    assert seeds_needed(0.1, nothing, 1) is None
    assert seeds_needed(0.0, Spread(0.01, 4), 3) is None
    assert detectable(Spread(0.0, 4), 3) == 0
    assert seeds_needed(0.1, Spread(0.0, 4), 3) == 2
