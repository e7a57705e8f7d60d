"""Power against simulated studies, and the fewest seeds that settle a difference."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.statistics.power import POWER, detectable, power, seeds_needed
from workbench.statistics.verdict import Spread, gain_on, pooled_spread


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


def test_with_a_margin_the_seeds_needed_may_show_equivalence():
    spread = Spread(1.0, 6)
    needed = seeds_needed(0.1, spread, 3, margin=1.0)
    assert needed is not None
    assert needed < seeds_needed(0.1, spread, 3)
    generator, seen = np.random.default_rng(0), []
    for _ in range(1500):
        difference_S = 0.1 + generator.normal(size=needed)
        then = Spread(float(difference_S.std(ddof=1)), needed - 1)
        seen.append(then.equivalence_p_value(float(difference_S.mean()), needed, 1.0) < 0.05)
    assert np.mean(seen) == pytest.approx(POWER, abs=0.1)  # seeds are whole, and degrees of freedom scaled


def test_a_sequential_test_needs_the_seeds_after_which_it_is_settled():
    spread = Spread(1.0, 12, sequential=True)
    needed = seeds_needed(1.5, spread, 5, num_tests=3)
    assert needed is not None
    before, then = (Spread(1.0, 3 * (number - 1), sequential=True) for number in (needed - 1, needed))
    assert before.p_value(1.5, needed - 1) > 0.05 / 3 > then.p_value(1.5, needed)
