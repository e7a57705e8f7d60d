"""Pooled comparisons against textbook tests, Holm's correction against closed testing, and what verdicts mean."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.statistics.intervals import Gain
from workbench.statistics.verdict import (
    gain_on,
    holm,
    judge,
    main_effects,
    pooled_spread,
    verdict,
)

numbers = st.floats(-1, 1).map(lambda value: round(value, 3))


def table(value_CS: np.ndarray) -> dict[str, dict[int, float]]:
    """Cells "0", "1", ... by seed; a nan is a seed that is not there."""
    return {str(c): {s: float(v) for s, v in enumerate(row) if not math.isnan(v)} for c, row in enumerate(value_CS)}


@given(st.integers(2, 6).flatmap(lambda n: st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n)))
def test_two_cells_are_the_paired_t_test(pairs):
    before, after = np.array(pairs).T
    values = table(np.array([before, after]))
    spread = pooled_spread(values)
    gain = gain_on(values, "0", "1", spread)
    sd = float((after - before).std(ddof=1))
    if sd < 1e-9:
        assert spread.sd == pytest.approx(0, abs=1e-9)
        return
    expected = stats.ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert spread.p_value(gain.mean, len(pairs)) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-9)


def test_with_all_seeds_it_is_the_residual_mean_square_of_the_two_way_table():
    value_CS = np.random.default_rng(0).normal(size=(6, 3)) + np.array([0.0, 5.0, -3.0])
    residual = value_CS - value_CS.mean(1, keepdims=True) - value_CS.mean(0) + value_CS.mean()
    spread = pooled_spread(table(value_CS))
    assert spread.df == 5 * 2
    assert spread.sd == pytest.approx(math.sqrt(2 * (residual**2).sum() / 10))


def test_what_all_cells_of_a_seed_share_changes_nothing():
    value_CS = np.random.default_rng(1).normal(size=(4, 3))
    one, other = (pooled_spread(table(values)) for values in (value_CS, value_CS + np.array([9.0, -4.0, 0.0])))
    assert one.sd == pytest.approx(other.sd)


def test_missing_seeds_are_left_out_of_a_pair_and_counted_in_the_spread():
    value_CS = np.random.default_rng(2).normal(size=(4, 4))
    value_CS[1, 2] = value_CS[3, 0] = math.nan
    values = table(value_CS)
    spread = pooled_spread(values)
    assert spread.df == 14 - 7  # numbers, less the cells, less the seeds beside one
    gain = gain_on(values, "1", "3", spread)
    assert gain.per_seed == pytest.approx((value_CS[3, 1] - value_CS[1, 1], value_CS[3, 3] - value_CS[1, 3]))
    brute = _least_squares(value_CS)
    assert spread.sd**2 / 2 * spread.df == pytest.approx(brute, rel=1e-9)


def _least_squares(value_CS: np.ndarray) -> float:
    """The residual sum of squares by sweeping out the means of cells and seeds until nothing moves."""
    rest = value_CS.copy()
    for _ in range(2000):
        rest -= np.nanmean(rest, axis=1, keepdims=True)
        rest -= np.nanmean(rest, axis=0, keepdims=True)
    return float(np.nansum(rest**2))


def test_intervals_have_their_nominal_coverage():
    generator = np.random.default_rng(3)
    covered = []
    for _ in range(1500):
        value_CS = 0.02 * generator.normal(size=3) + 0.01 * generator.normal(size=(5, 3))
        values = table(value_CS)
        gain = gain_on(values, "0", "4", pooled_spread(values))
        covered.append(gain.low <= 0 <= gain.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_too_few_numbers_know_nothing():
    values = {"a": {0: 0.3}, "b": {0: 0.5}}
    spread = pooled_spread(values)
    gain = gain_on(values, "a", "b", spread)
    assert (spread.df, gain.mean, gain.low) == (0, pytest.approx(0.2), -math.inf)
    assert spread.p_value(0.2, 1) == 1
    assert gain_on({"a": {0: 0.3}, "b": {1: 0.5}}, "a", "b", spread) is None
    assert pooled_spread({}).df == 0


def test_numbers_that_never_vary_are_certain():
    values = {"a": {0: 1e6, 1: 1e6}, "b": {0: 2e6, 1: 2e6}}
    spread = pooled_spread(values)
    assert spread.sd == 0
    assert spread.p_value(1e6, 2) == 0
    assert spread.p_value(0, 2) == 1


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="drop the seeds that diverged"):
        pooled_spread({"a": {0: math.inf}, "b": {0: 0.1}})


A, B = (0, 1), ("x", "y", "z")
LEVELS = {f"{a}{b}": {"a": a, "b": b} for a in A for b in B}


def outcomes(noise: float) -> dict[str, dict[int, float]]:
    generator = np.random.default_rng(0)
    seed_S = generator.normal(size=3)
    return {
        cell: {
            seed: float(2.0 * of["a"] + {"x": 0, "y": 3, "z": -3}[of["b"]] + seed_S[seed] + noise * generator.normal())
            for seed in range(3)
        }
        for cell, of in LEVELS.items()
    }


def test_effects_that_were_put_in_come_out():
    found = {(one.setting, one.level): one.gain for one in main_effects(outcomes(0.0), LEVELS)}
    assert {key: round(gain.mean, 9) for key, gain in found.items()} == {
        ("a", 0): -1, ("a", 1): 1, ("b", "x"): 0, ("b", "y"): 3, ("b", "z"): -3
    }  # fmt: skip


def test_the_interval_is_that_of_the_contrast():
    values = outcomes(0.5)
    found = {(one.setting, one.level): one.gain for one in main_effects(values, LEVELS)}
    spread = pooled_spread(values)
    weight = {cell: (1 / 2 if of["b"] == "y" else 0) - 1 / 6 for cell, of in LEVELS.items()}
    expected = [sum(weight[cell] * values[cell][seed] for cell in LEVELS) for seed in range(3)]
    gain = found["b", "y"]
    assert gain.per_seed == pytest.approx(expected)
    variance = spread.sd**2 / 2 * sum(w * w for w in weight.values())
    assert gain.high - gain.mean == pytest.approx(spread.half_width(3) / spread.sd * variance**0.5)


def test_a_seed_with_a_missing_cell_is_left_out():
    values = outcomes(0.5)
    del values["1z"][2]
    assert all(len(one.gain.per_seed) == 2 for one in main_effects(values, LEVELS))
    values["1z"] = {}
    assert main_effects(values, LEVELS) == []


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
        (0.1, 0.05, True, "open"),
    ],
)
def test_a_verdict_follows_the_better_direction(mean, p_value, higher_is_better, said):
    assert verdict(gain(mean), p_value, higher_is_better) == said


def test_one_seed_gets_no_verdict_and_costs_the_others_nothing():
    values = {"base": {0: 0.0, 1: 1.0, 2: 2.0}, "a": {0: 1.0, 1: 2.1, 2: 3.2}, "b": {0: 0.1, 1: 1.2, 2: 1.9}}
    spread = pooled_spread(values)
    found = judge(values | {"c": {2: 9.0}}, "base", spread, True)
    assert found["c"].verdict == "not enough seeds"
    assert found["a"].verdict == "better"
    assert found["a"].p_value == pytest.approx(2 * spread.p_value(1.1, 3))  # of two tests, not three
    assert found["b"].verdict == "open"


def test_a_cell_is_equivalent_exactly_if_its_90_percent_interval_lies_within_the_margin():
    values = table(np.array([[0.0, 1.0, 2.0], [0.1, 1.2, 1.9]]))
    spread = pooled_spread(values)
    edge = abs(gain_on(values, "0", "1", spread).mean) + spread.half_width(3, 0.9)  # two one-sided tests at 0.05
    assert [judge(values, "0", spread, True, margin=edge * by)["1"].verdict for by in (0.999, 1.001)] == [
        "open",
        "equivalent",
    ]


def test_a_clear_difference_comes_before_equivalence():
    values = table(np.array([[0.0, 1.0, 2.0], [0.1, 1.1, 2.1001]]))
    assert judge(values, "0", pooled_spread(values), True, margin=1.0)["1"].verdict == "better"
