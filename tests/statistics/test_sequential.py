"""The Bayes factor against its integral, the interval against the p-value, and studies with a look at every seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from workbench.statistics.sequential import PRIOR, sequential_half_width, sequential_p_value
from workbench.statistics.verdict import SETTLED, judge, pooled_spread


@pytest.mark.parametrize(
    ("t", "df", "num_seeds"), [(0.0, 4, 3), (2.5, 4, 3), (3.0, 14, 3), (-4.0, 63, 10), (3.9, 9, 10)]
)
def test_it_is_the_ratio_of_the_densities_of_t_with_and_without_a_difference(t, df, num_seeds):
    def density(effect):  # of t and of an effect (difference / sd) from the prior
        prior = stats.norm.pdf(effect, scale=PRIOR**-0.5)
        return stats.nct.pdf(t, df, math.sqrt(num_seeds) * effect) * prior

    bayes_factor = integrate.quad(density, -8, 8, limit=200)[0] / stats.t.pdf(t, df)
    p_value = sequential_p_value(t / math.sqrt(num_seeds), 1.0, df, num_seeds)
    assert p_value == pytest.approx(min(1.0, 1 / bayes_factor), rel=1e-6)


@given(st.floats(1e-3, 10), st.integers(1, 200), st.integers(2, 40), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_has_the_differences_that_the_test_keeps(sd, df, num_seeds, level):
    half = sequential_half_width(sd, df, num_seeds, level)
    if math.isinf(half):
        assert sequential_p_value(1e6 * sd, sd, df, num_seeds) > 1 - level
    else:
        assert sequential_p_value(half, sd, df, num_seeds) == pytest.approx(1 - level, rel=1e-6)


FIRST, MOST = 3, 30


def verdicts_of_a_study(generator, effects, *, margin=0.0, sequential=True):
    """(verdicts by cell, number of runs) of a study that gives open cells another seed until all are settled."""
    value_CS = generator.normal(size=MOST) + np.array(effects)[:, None] + generator.normal(size=(len(effects), MOST))
    num_seeds = dict.fromkeys(range(len(effects)), FIRST)
    while True:
        values = {str(c): dict(enumerate(value_CS[c, :number].tolist())) for c, number in num_seeds.items()}
        found = judge(values, "0", pooled_spread(values, sequential=sequential), True, margin=margin)
        still_open = [int(cell) for cell, one in found.items() if one.verdict not in SETTLED]
        if not still_open or num_seeds[0] == MOST:
            return {cell: one.verdict for cell, one in found.items()}, sum(num_seeds.values())
        num_seeds |= dict.fromkeys([0, *still_open], num_seeds[0] + 1)


@pytest.mark.parametrize("num_cells", [2, 5])
def test_looks_after_every_seed_find_a_difference_that_is_not_there_in_at_most_5_percent_of_studies(num_cells):
    shares = {}
    for sequential in (True, False):
        generator = np.random.default_rng(0)
        studies = [verdicts_of_a_study(generator, [0.0] * num_cells, sequential=sequential)[0] for _ in range(120)]
        shares[sequential] = np.mean([bool({"better", "worse"} & set(found.values())) for found in studies])
    assert shares[True] <= 0.05
    assert shares[False] > 0.1  # Student's t-test after every seed, which this replaces


def test_cells_that_differ_by_the_margin_are_found_equivalent_in_at_most_5_percent_of_studies():
    generator = np.random.default_rng(1)
    studies = [verdicts_of_a_study(generator, [0.0, 1.5, -1.5], margin=1.5)[0] for _ in range(120)]
    assert np.mean(["equivalent" in found.values() for found in studies]) <= 0.05


def test_clear_differences_stop_early_and_equal_cells_are_found_equivalent():
    generator = np.random.default_rng(2)
    studies = [verdicts_of_a_study(generator, [0.0, 12.0, 9.0, 0.0], margin=4.0) for _ in range(40)]
    assert all(found["1"] == found["2"] == "better" for found, _ in studies)
    assert np.mean([found["3"] == "equivalent" for found, _ in studies]) > 0.9
    assert np.mean([runs for _, runs in studies]) < 4 * MOST / 3
