import json
import math

import numpy as np
import pytest
from scipy import stats

from workbench.statistics.intervals import Gain, paired_gain, seed_gain, seed_mean


def draw(generator: np.random.Generator, num_seeds: int, num_items: int, seed_sd: float, item_sd: float) -> np.ndarray:
    """Differences of the docstring's model, with a gain of 0.1 and residuals of standard deviation 0.5."""
    return (
        0.1
        + seed_sd * generator.standard_normal((num_seeds, 1))
        + item_sd * generator.standard_normal((1, num_items))
        + 0.5 * generator.standard_normal((num_seeds, num_items))
    )


def test_over_seeds_it_is_the_paired_t_test() -> None:
    baseline, treated = np.array([0.24, 0.27, 0.30, 0.28]), np.array([0.29, 0.35, 0.33, 0.36])
    expected = stats.ttest_rel(treated, baseline).confidence_interval(0.95)
    gain = seed_gain(baseline, treated)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert gain.mean == pytest.approx(0.06)
    assert gain.per_seed == pytest.approx((0.05, 0.08, 0.03, 0.08))
    assert gain.covers == "seeds"
    narrow = seed_gain(baseline, treated, level=0.5)
    assert narrow.high == pytest.approx(stats.ttest_rel(treated, baseline).confidence_interval(0.5).high)


def test_one_seed_without_items_knows_no_interval() -> None:
    gain = seed_gain([0.2], [0.3])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.1, -math.inf, math.inf))
    assert not gain.clear
    assert json.loads(json.dumps(gain.to_json(), allow_nan=False)) == {
        "mean": pytest.approx(0.1),
        "low": None,
        "high": None,
        "per_seed": [pytest.approx(0.1)],
        "covers": "seeds",
    }


def test_the_interval_agrees_with_sums_written_out() -> None:
    difference = draw(np.random.default_rng(0), 3, 40, 0.1, 0.6)
    baseline = np.random.default_rng(1).random((3, 40))
    gain = paired_gain(baseline, baseline + difference)

    rows, columns = difference.tolist(), difference.T.tolist()
    grand = sum(map(sum, rows)) / 120
    seed_means, item_means = [sum(row) / 40 for row in rows], [sum(column) / 3 for column in columns]
    ms_seeds = 40 * sum((mean - grand) ** 2 for mean in seed_means) / 2
    ms_items = 3 * sum((mean - grand) ** 2 for mean in item_means) / 39
    ms_residual = sum(
        (rows[s][i] - seed_means[s] - item_means[i] + grand) ** 2 for s in range(3) for i in range(40)
    ) / (2 * 39)
    assert ms_items > ms_residual
    seeds, items = ms_seeds / 120, (ms_items - ms_residual) / 120
    quantile = (seeds * stats.t.ppf(0.975, 2) + items * stats.t.ppf(0.975, 39)) / (seeds + items)
    half = quantile * math.sqrt(seeds + items)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((grand, grand - half, grand + half), rel=1e-9)
    assert gain.per_seed == pytest.approx(seed_means)
    assert gain.covers == "seeds and items"


def test_items_that_add_nothing_leave_the_paired_t_test() -> None:
    seeds = np.array([[0.0], [0.1], [0.3]])
    signs = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]) * 0.2  # no item is better at all seeds
    gain = paired_gain(np.zeros((3, 2)), seeds + signs)
    over_seeds = seed_gain(np.zeros(3), seeds[:, 0])
    assert (gain.low, gain.high) == pytest.approx((over_seeds.low, over_seeds.high))


def test_one_seed_agrees_with_a_bootstrap_of_the_items() -> None:
    generator = np.random.default_rng(2)
    baseline, treated = generator.random((1, 900)) < 0.3, generator.random((1, 900)) < 0.4
    gain = paired_gain(baseline, treated)
    difference = treated[0].astype(float) - baseline[0]
    means = [difference[generator.integers(0, 900, 900)].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (gain.low, gain.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    assert gain.covers == "items"


def test_copies_of_an_outcome_are_one_item() -> None:
    generator = np.random.default_rng(3)
    baseline, treated = generator.random((3, 60)) < 0.3, generator.random((3, 60)) < 0.45
    once = paired_gain(baseline, treated)
    copies = np.repeat(np.arange(60), 5)
    grouped = paired_gain(baseline[:, copies], treated[:, copies], item_N=copies)
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high), rel=1e-12)
    grouped = paired_gain(baseline[:1, copies], treated[:1, copies], item_N=copies)
    naive = paired_gain(baseline[:1, copies], treated[:1, copies])
    assert (grouped.high - grouped.low) / (naive.high - naive.low) == pytest.approx(math.sqrt(5), rel=0.03)


def test_items_of_different_sizes_keep_their_weight() -> None:
    gain = paired_gain(np.zeros((2, 4)), [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]], item_N=[7, 7, 7, 2])
    assert gain.per_seed == pytest.approx((0.75, 0.5))


@pytest.mark.parametrize(
    ("num_seeds", "seed_sd", "item_sd"),
    [(2, 0.0, 0.0), (3, 0.0, 0.0), (3, 0.05, 0.3), (3, 0.2, 0.0), (5, 0.01, 0.8), (5, 0.05, 0.3)],
)
def test_the_interval_covers_the_truth_95_times_in_100(num_seeds: int, seed_sd: float, item_sd: float) -> None:
    generator = np.random.default_rng([4, num_seeds])
    gains = [
        paired_gain(np.zeros(difference.shape), difference)
        for difference in (draw(generator, num_seeds, 100, seed_sd, item_sd) for _ in range(2000))
    ]
    coverage = np.mean([gain.low <= 0.1 <= gain.high for gain in gains])
    assert 0.93 <= coverage <= 0.97


def test_no_mixture_of_seeds_and_items_is_covered_too_rarely() -> None:
    generator = np.random.default_rng(5)
    for num_seeds, seed_sd, item_sd in [(2, 0.02, 0.5), (2, 0.1, 0.5), (3, 0.02, 0.5), (3, 0.1, 0.5)]:
        differences = [draw(generator, num_seeds, 100, seed_sd, item_sd) for _ in range(1000)]
        gains = [paired_gain(np.zeros(difference.shape), difference) for difference in differences]
        assert np.mean([gain.low <= 0.1 <= gain.high for gain in gains]) >= 0.93


def test_clear_means_that_zero_is_outside() -> None:
    assert Gain(0.2, 0.1, 0.3, (0.2,), "seeds").clear
    assert Gain(-0.2, -0.3, -0.1, (-0.2,), "seeds").clear
    assert not Gain(0.2, -0.1, 0.5, (0.2,), "seeds").clear


def test_equal_models_gain_nothing_with_certainty() -> None:
    hits = np.random.default_rng(6).random((3, 50)) < 0.5
    gain = paired_gain(hits, hits)
    assert (gain.mean, gain.low, gain.high) == (0.0, 0.0, 0.0)
    assert not gain.clear


def test_what_does_not_pair_is_an_error() -> None:
    with pytest.raises(ValueError, match="same seeds and items"):
        seed_gain([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="same seeds and items"):
        paired_gain([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(ValueError, match="diverged"):
        seed_gain([0.1, math.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="at least 2"):
        paired_gain([[1.0], [0.0]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="2 outcomes have 3 items"):
        paired_gain(np.zeros((2, 2)), np.ones((2, 2)), item_N=[0, 1, 2])


def test_a_mean_over_seeds_is_students():
    values = [0.24, 0.27, 0.30, 0.28]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    mean = seed_mean(values)
    assert (mean.low, mean.high) == pytest.approx(expected)
    assert (mean.covers, mean.per_seed) == ("seeds", tuple(values))
    assert seed_mean([0.2]).high == math.inf
    with pytest.raises(ValueError, match="finite"):
        seed_mean([0.2, math.nan])


def test_errors_over_items_do_not_shrink_with_seeds():
    values, errors = [0.24, 0.27, 0.30, 0.28], [0.01, 0.02, 0.01, 0.02]
    seeds, items = stats.sem(values) ** 2, np.mean(np.square(errors))
    quantile = (seeds * stats.t.ppf(0.975, 3) + items * stats.t.ppf(0.975, 999)) / (seeds + items)
    mean = seed_mean(values, errors, num_items=1000)
    assert mean.high - mean.mean == pytest.approx(quantile * math.sqrt(seeds + items))
    assert mean.covers == "seeds and items"
    same = seed_mean([0.25] * 4, [0.02] * 4)
    assert same.high - 0.25 == pytest.approx(0.02 * stats.norm.ppf(0.975), rel=1e-6)


def test_an_interval_over_items_covers_other_images_too():
    generator, covered = np.random.default_rng(5), []
    for _ in range(1000):
        share_N = np.clip(0.3 + 0.25 * generator.standard_normal(400), 0, 1)
        outcome_SN = generator.random((3, 400)) < share_N + 0.02 * generator.standard_normal((3, 1))
        means, errors = outcome_SN.mean(1), outcome_SN.std(1, ddof=1) / math.sqrt(400)
        mean = seed_mean(means, errors, num_items=400)
        covered.append(mean.low <= 0.3138 <= mean.high)
    assert np.mean(covered) > 0.94
