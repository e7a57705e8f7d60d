"""Racing: the spread by an independent formula, and who is dropped."""

import numpy as np
import pytest

from workbench.sweeps.racing import is_out_of_the_race, residual_spread


def trials(effects, seeds, noise, generator):
    seed_effects = generator.normal(0, 5, len(seeds))  # far larger than what is asked about
    return [
        {seed: effect + seed_effects[index] + generator.normal(0, noise) for index, seed in enumerate(seeds)}
        for effect in effects
    ]


def test_the_spread_is_that_of_the_paired_differences():
    """Of two trials, the variance of their difference over seeds is 2 s²."""
    one, other = {0: 1.0, 1: 4.0, 2: 2.0}, {0: 0.5, 1: 2.0, 2: 3.5}
    spread, df = residual_spread([one, other])
    assert df == 2
    assert 2 * spread**2 == pytest.approx(np.var([one[seed] - other[seed] for seed in one], ddof=1))


def test_equal_configurations_are_seldom_dropped_and_bad_ones_are():
    generator = np.random.default_rng(0)
    dropped_equal = dropped_bad = 0
    for _ in range(400):
        *finished, last = trials([0.0] * 9, range(3), 1.0, generator)
        first_two = {seed: last[seed] for seed in (0, 1)}
        dropped_equal += is_out_of_the_race(first_two, finished, maximize=True)
        worse = {seed: value - 6 for seed, value in first_two.items()}
        dropped_bad += is_out_of_the_race(worse, finished, maximize=True)
    assert dropped_equal / 400 < 0.1
    assert dropped_bad / 400 > 0.9


def test_smaller_is_better_where_it_is_minimised():
    finished = trials([0.0] * 6, range(3), 0.1, np.random.default_rng(1))
    better = {0: finished[0][0] - 5}
    assert is_out_of_the_race(better, finished, maximize=True)
    assert not is_out_of_the_race(better, finished, maximize=False)


def test_nobody_is_dropped_before_the_scatter_is_known():
    assert not is_out_of_the_race({0: -100.0}, [{0: 1.0, 1: 2.0}, {0: 1.1, 1: 2.0}], maximize=True)
    assert not is_out_of_the_race({0: -100.0}, [], maximize=True)
