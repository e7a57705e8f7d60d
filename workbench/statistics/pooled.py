"""What each of several settings does, averaged over the others."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.statistics.intervals import Gain

# Many cells against one of them, paired by seed, with one spread for all: what makes three seeds say something.
#
# The model of an outcome of cell c at seed s is
#
#     y[c, s] = cell[c] + seed[s] + residual[c, s]        (independent, of one variance σ²)
#
# A paired t-test of two cells at three seeds has two degrees of freedom and needs 4.3 standard errors; σ² from the
# residuals of all C cells has (C - 1)(S - 1), and with six cells 2.2 do. With two cells the two tests are the same.
# The price is the assumption that cells differ in their means and not in their spread: one that nearly diverges
# widens the interval of all.
#
# Shape letters: C cells, S seeds.

Values = Mapping[str, Mapping[int, float]]  # by cell, then by seed
NOISE = 1e-12  # of the values' size: a spread below it is the last bits of the arithmetic


@dataclass(frozen=True)
class Spread:
    """How much a difference between two cells varies from seed to seed: ``sd``, of one seed's difference."""

    sd: float
    df: int

    def p_value(self, difference: float, num_seeds: int) -> float:
        """The chance of a mean difference as large as this, either way, between cells that do not differ."""
        from scipy.special import stdtr

        if not self.df or not num_seeds:
            return 1.0
        if self.sd == 0:
            return float(difference == 0)
        return 2 * float(stdtr(self.df, -abs(difference) * math.sqrt(num_seeds) / self.sd))

    def half_width(self, num_seeds: int, level: float = 0.95) -> float:
        """Half the interval of a mean difference over so many seeds."""
        from scipy.special import stdtrit

        if not self.df or not num_seeds:
            return math.inf
        return float(stdtrit(self.df, (1 + level) / 2)) * self.sd / math.sqrt(num_seeds)


def pooled_spread(values: Values) -> Spread:
    """The spread of the differences, √2 · σ, from whatever cells and seeds there are; 0 degrees of freedom if too few.

    Raises:
        ValueError: a number is not finite.
    """
    table_CS = _table(values)
    present_CS = ~np.isnan(table_CS)
    cell_N, seed_N = np.nonzero(present_CS)
    value_N = table_CS[present_CS]
    if not len(value_N):
        return Spread(math.nan, 0)
    num_cells, num_seeds = table_CS.shape
    design = np.concatenate([np.eye(num_cells)[cell_N], np.eye(num_seeds)[seed_N]], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(design, value_N - value_N.mean(), rcond=None)
    df = len(value_N) - int(rank)
    if not df:
        return Spread(math.nan, 0)
    residual_N = value_N - value_N.mean() - design @ fitted
    sd = math.sqrt(2 * float(residual_N @ residual_N) / df)
    return Spread(sd if sd > NOISE * float(np.abs(value_N).max()) else 0.0, df)


def gain_on(values: Values, baseline: str, treated: str, spread: Spread, *, level: float = 0.95) -> Gain | None:
    """The gain of one cell on another over the seeds that both have, with the pooled spread; None if they share none.

    It covers seeds; the test items are taken as given.
    """
    seeds = sorted(values[baseline].keys() & values[treated].keys())
    if not seeds:
        return None
    per_seed = tuple(values[treated][seed] - values[baseline][seed] for seed in seeds)
    mean, half = sum(per_seed) / len(per_seed), spread.half_width(len(seeds), level)
    return Gain(mean, mean - half, mean + half, per_seed, "seeds")


def _table(values: Values) -> NDArray[np.float64]:
    """[C, S] with nan where a cell lacks a seed."""
    seeds = sorted({seed for cell in values.values() for seed in cell})
    if not all(math.isfinite(value) for cell in values.values() for value in cell.values()):
        raise ValueError("differences between cells need finite numbers: leave out the seeds that diverged")
    return np.array([[cell.get(seed, math.nan) for seed in seeds] for cell in values.values()]).reshape(
        len(values), len(seeds)
    )


Levels = Sequence[Hashable]


@dataclass(frozen=True)
class Effect:
    """One value of one setting: what it adds to the mean over all its values, the other settings averaged over."""

    setting: str
    level: Any
    gain: Gain


def main_effects(values: Values, levels: Mapping[str, Mapping[str, Hashable]]) -> list[Effect]:
    """The main effects of a full grid, paired by seed, over the seeds at which every cell has ended.

    A seed at which a cell is missing would lend its neighbours' means to that cell's values, and is left out; with no
    whole seed there is nothing to tell.

    The variance of a mean over the n cells of a value, less that over the g · n of all g values, is σ²(1/n - 1/(g·n))
    over the seeds, σ² pooled as in :mod:`workbench.statistics.pooled`.

    Args:
        values: by cell and seed.
        levels: by cell, the value of every setting.
    """
    whole = sorted(set.intersection(*(set(values.get(cell, {})) for cell in levels))) if levels else []
    if not whole:
        return []
    spread = pooled_spread({cell: {seed: values[cell][seed] for seed in whole} for cell in levels})
    found = []
    for setting in next(iter(levels.values())):
        by_level: dict[Hashable, list[str]] = {}
        for cell, of in levels.items():
            by_level.setdefault(of[setting], []).append(cell)
        if len(by_level) < 2:
            continue
        means = {level: [_mean(values, cells, seed) for seed in whole] for level, cells in by_level.items()}
        centre = [sum(column) / len(column) for column in zip(*means.values(), strict=True)]
        for level, mean in means.items():
            per_seed = tuple(one - middle for one, middle in zip(mean, centre, strict=True))
            share = math.sqrt((1 - 1 / len(by_level)) / len(by_level[level]) / 2)  # the spread is √2 · σ
            half = share * spread.half_width(len(whole))
            gain = sum(per_seed) / len(per_seed)
            found.append(Effect(setting, level, Gain(gain, gain - half, gain + half, per_seed, "seeds")))
    return found


def _mean(values: Values, cells: Sequence[str], seed: int) -> float:
    return sum(values[cell][seed] for cell in cells) / len(cells)
