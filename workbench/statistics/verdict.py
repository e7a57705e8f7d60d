"""Paired comparisons of many cells with a variance pooled over all of them: gains, verdicts, power, main effects.

The model of the outcome of cell c at seed s is

    y[c, s] = cell[c] + seed[s] + residual[c, s]        (independent, with common variance σ²)

A paired t-test of two cells at three seeds has two degrees of freedom and a critical value of 4.3; σ² from the
residuals of all C cells has (C - 1)(S - 1), with six cells a critical value of 2.2. With two cells the tests are
identical. The price is the assumption of equal variances: one nearly diverging cell widens the intervals of all.

Shape letters: C cells, S seeds.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.statistics.intervals import Gain

Values = Mapping[str, Mapping[int, float]]  # by cell, then by seed
NOISE = 1e-12  # relative to the values: a smaller standard deviation is rounding error


@dataclass(frozen=True)
class Spread:
    """Standard deviation ``sd`` of one seed's difference between two cells, with its degrees of freedom."""

    sd: float
    df: int

    def p_value(self, difference: float, num_seeds: int) -> float:
        """Two-sided p-value of a mean difference over so many seeds."""
        from scipy.special import stdtr

        if not self.df or not num_seeds:
            return 1.0
        if self.sd == 0:
            return float(difference == 0)
        return 2 * float(stdtr(self.df, -abs(difference) * math.sqrt(num_seeds) / self.sd))

    def half_width(self, num_seeds: int, level: float = 0.95) -> float:
        """Half width of the interval of a mean difference over so many seeds."""
        from scipy.special import stdtrit

        if not self.df or not num_seeds:
            return math.inf
        return float(stdtrit(self.df, (1 + level) / 2)) * self.sd / math.sqrt(num_seeds)


def pooled_spread(values: Values) -> Spread:
    """√2 · σ from all cells and seeds, which may be an incomplete table; 0 degrees of freedom if there are too few.

    Raises:
        ValueError: a value is not finite.
    """
    table_CS = _table(values)
    present_CS = ~np.isnan(table_CS)
    cell_N, seed_N = np.nonzero(present_CS)
    value_N = table_CS[present_CS]
    if not len(value_N):
        return Spread(math.nan, 0)
    num_cells, num_seeds = table_CS.shape
    # Least squares on indicator columns, since cells may lack seeds; the rank accounts for unconnected parts.
    design = np.concatenate([np.eye(num_cells)[cell_N], np.eye(num_seeds)[seed_N]], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(design, value_N - value_N.mean(), rcond=None)
    df = len(value_N) - int(rank)
    if not df:
        return Spread(math.nan, 0)
    residual_N = value_N - value_N.mean() - design @ fitted
    # Twice, because a difference of two cells has the residuals of both.
    sd = math.sqrt(2 * float(residual_N @ residual_N) / df)
    return Spread(sd if sd > NOISE * float(np.abs(value_N).max()) else 0.0, df)


def gain_on(values: Values, baseline: str, treated: str, spread: Spread, *, level: float = 0.95) -> Gain | None:
    """The gain of ``treated`` over ``baseline`` on shared seeds, with the pooled variance; None without shared seeds.

    Covers seeds; the test items are fixed.
    """
    seeds = sorted(values[baseline].keys() & values[treated].keys())
    if not seeds:
        return None
    per_seed = tuple(values[treated][seed] - values[baseline][seed] for seed in seeds)
    mean, half = sum(per_seed) / len(per_seed), spread.half_width(len(seeds), level)
    return Gain(mean, mean - half, mean + half, per_seed, "seeds")


def _table(values: Values) -> NDArray[np.float64]:
    """[C, S], NaN for missing seeds."""
    seeds = sorted({seed for cell in values.values() for seed in cell})
    if not all(math.isfinite(value) for cell in values.values() for value in cell.values()):
        raise ValueError("differences between cells need finite numbers: drop the seeds that diverged")
    return np.array([[cell.get(seed, math.nan) for seed in seeds] for cell in values.values()]).reshape(
        len(values), len(seeds)
    )


Verdict = Literal["better", "worse", "higher", "lower", "no difference seen", "not enough seeds"]
ALPHA = 0.05
FEWEST_SEEDS = 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values (Holm 1979), which control the family-wise error rate.

    The k-th smallest of m becomes the maximum over i ≤ k of (m - i + 1) times the i-th smallest, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def verdict(gain: Gain, p_value: float, higher_is_better: bool | None, *, alpha: float = ALPHA) -> Verdict:
    """The verdict on a difference, given its adjusted p-value; better or worse if the metric has a direction.

    "no difference seen" does not mean equality; see :func:`detectable` for the minimum detectable effect.
    """
    if len(gain.per_seed) < FEWEST_SEEDS:
        return "not enough seeds"
    if p_value >= alpha:
        return "no difference seen"
    if higher_is_better is None:
        return "higher" if gain.mean > 0 else "lower"
    return "better" if (gain.mean > 0) == higher_is_better else "worse"


def verdicts(
    gains: Mapping[str, Gain], p_values: Mapping[str, float], higher_is_better: bool | None
) -> dict[str, tuple[float, Verdict]]:
    """(adjusted p-value, verdict) of every cell; those with too few seeds are not counted in the correction."""
    tested = [name for name, gain in gains.items() if len(gain.per_seed) >= FEWEST_SEEDS]
    adjusted = dict(zip(tested, holm([p_values[name] for name in tested]), strict=True))
    return {
        name: (adjusted.get(name, 1.0), verdict(gain, adjusted.get(name, 1.0), higher_is_better))
        for name, gain in gains.items()
    }


POWER = 0.8
MOST_SEEDS = 1000


def power(difference: float, spread: Spread, num_seeds: int, *, num_tests: int = 1) -> float:
    """Power of a two-sided t-test at 0.05 / ``num_tests``, the strictest step of Holm's correction."""
    from scipy.special import stdtrit

    if not spread.df or not num_seeds:
        return 0.0
    if spread.sd == 0:
        return float(difference != 0)
    critical = float(stdtrit(spread.df, 1 - ALPHA / num_tests / 2))
    shift = abs(difference) * math.sqrt(num_seeds) / spread.sd
    return 1 - _noncentral_t(spread.df, shift, critical) + _noncentral_t(spread.df, shift, -critical)


def _noncentral_t(df: int, shift: float, bound: float) -> float:
    """CDF of the noncentral t distribution; scipy's is NaN at some points where it is below 1e-9."""
    from scipy.special import nctdtr

    found = float(nctdtr(df, shift, bound))
    return 0.0 if math.isnan(found) else found


def detectable(spread: Spread, num_seeds: int, *, num_tests: int = 1) -> float:
    """Minimum detectable effect at 80 % power with so many seeds; infinite with too few."""
    from scipy.optimize import brentq

    if not spread.df or not num_seeds:
        return math.inf
    if spread.sd == 0:
        return 0.0
    # Bracket the root: power increases with the difference.
    high = spread.sd
    while power(high, spread, num_seeds, num_tests=num_tests) < POWER:
        high *= 2
    root: float = brentq(lambda size: power(size, spread, num_seeds, num_tests=num_tests) - POWER, 0, high)
    return root


def seeds_needed(difference: float, spread: Spread, num_seeds: int, *, num_tests: int = 1) -> int | None:
    """Seeds needed for 80 % power at this difference; None if more than a thousand or unknown.

    Args:
        num_seeds: number of seeds behind ``spread``; degrees of freedom scale in proportion.
    """
    if num_seeds < 2 or not spread.df:
        return None

    def has_power(number: int) -> bool:
        df = max(1, spread.df * (number - 1) // (num_seeds - 1))
        return power(difference, Spread(spread.sd, df), number, num_tests=num_tests) >= POWER

    # Double until there is enough power, then bisect; power increases with the number of seeds.
    few, many = 1, 2
    while not has_power(many):
        few, many = many, 2 * many
        if few >= MOST_SEEDS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if has_power(middle) else (middle, many)
    return many


@dataclass(frozen=True)
class Effect:
    """Main effect of one value of a setting: its mean minus that over all values, averaged over other settings."""

    setting: str
    level: Any
    gain: Gain


def main_effects(values: Values, levels: Mapping[str, Mapping[str, Hashable]]) -> list[Effect]:
    """The main effects of a full grid, paired by seed, over seeds for which all cells have ended.

    Seeds with missing cells would bias the effects and are dropped; the result is empty if none is complete.

    The mean over the n cells of a value minus that over the g · n cells of all g values has variance
    σ²(1/n - 1/(g·n)) per seed, with the pooled σ².

    Args:
        values: values by cell and seed.
        levels: value of every setting, by cell.
    """
    complete = sorted(set.intersection(*(set(values.get(cell, {})) for cell in levels))) if levels else []
    if not complete:
        return []
    spread = pooled_spread({cell: {seed: values[cell][seed] for seed in complete} for cell in levels})
    found = []
    for setting in next(iter(levels.values())):
        by_level: dict[Hashable, list[str]] = {}
        for cell, of in levels.items():
            by_level.setdefault(of[setting], []).append(cell)
        if len(by_level) < 2:
            continue
        means = {level: [_mean(values, cells, seed) for seed in complete] for level, cells in by_level.items()}
        center = [sum(column) / len(column) for column in zip(*means.values(), strict=True)]
        for level, mean in means.items():
            per_seed = tuple(one - middle for one, middle in zip(mean, center, strict=True))
            share = math.sqrt(
                (1 - 1 / len(by_level)) / len(by_level[level]) / 2
            )  # / √2, because the pooled sd is √2 · σ
            half = share * spread.half_width(len(complete))
            gain = sum(per_seed) / len(per_seed)
            found.append(Effect(setting, level, Gain(gain, gain - half, gain + half, per_seed, "seeds")))
    return found


def _mean(values: Values, cells: Sequence[str], seed: int) -> float:
    return sum(values[cell][seed] for cell in cells) / len(cells)
