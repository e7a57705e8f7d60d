"""Paired comparisons of many cells with a variance pooled over all of them, and main effects of a grid.

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
from typing import Any

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


Levels = Sequence[Hashable]


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
