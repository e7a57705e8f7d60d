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
from workbench.statistics.sequential import sequential_half_width, sequential_p_value

Values = Mapping[str, Mapping[int, float]]  # by cell, then by seed
NOISE = 1e-12  # relative to the values: a smaller standard deviation is rounding error


@dataclass(frozen=True)
class Spread:
    """Standard deviation ``sd`` of one seed's difference between two cells, with its degrees of freedom.

    ``sequential``: whether p-values and intervals hold after every seed, as needed if the results decide on the number
    of seeds; otherwise they are Student's, for a number of seeds that was fixed in advance.
    """

    sd: float
    df: int
    sequential: bool = False

    def p_value(self, difference: float, num_seeds: int) -> float:
        """Two-sided p-value of a mean difference over so many seeds."""
        from scipy.special import stdtr

        if not self.df or not num_seeds:
            return 1.0
        if self.sd == 0:
            return float(difference == 0)
        if self.sequential:
            return sequential_p_value(difference, self.sd, self.df, num_seeds)
        return 2 * float(stdtr(self.df, -abs(difference) * math.sqrt(num_seeds) / self.sd))

    def equivalence_p_value(self, difference: float, num_seeds: int, margin: float) -> float:
        """p-value of "the true difference is at least ``margin``", in either direction.

        The larger of two one-sided tests (TOST; Schuirmann 1987).
        """
        distance = margin - abs(difference)  # to the nearer margin, whose p-value is the larger
        if distance <= 0 or not self.df or not num_seeds:
            return 1.0
        if self.sd == 0:
            return 0.0
        p_value = self.p_value(distance, num_seeds)
        return p_value if self.sequential else p_value / 2  # the sequential test has no one-sided form

    def half_width(self, num_seeds: int, level: float = 0.95) -> float:
        """Half width of the interval of a mean difference over so many seeds."""
        from scipy.special import stdtrit

        if not self.df or not num_seeds:
            return math.inf
        if self.sd == 0:
            return 0.0
        if self.sequential:
            return sequential_half_width(self.sd, self.df, num_seeds, level)
        return float(stdtrit(self.df, (1 + level) / 2)) * self.sd / math.sqrt(num_seeds)


def pooled_spread(values: Values, *, sequential: bool = False) -> Spread:
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
    return Spread(sd if sd > NOISE * float(np.abs(value_N).max()) else 0.0, df, sequential)


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


Verdict = Literal["better", "worse", "higher", "lower", "equivalent", "open", "not enough seeds"]
DIFFERENT: tuple[Verdict, ...] = ("better", "worse", "higher", "lower")
SETTLED: tuple[Verdict, ...] = (*DIFFERENT, "equivalent")
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


def verdict(
    gain: Gain,
    p_value: float,
    higher_is_better: bool | None,
    *,
    equivalence_p_value: float = 1.0,
    alpha: float = ALPHA,
) -> Verdict:
    """The verdict on a difference, given its adjusted p-values; better or worse if the metric has a direction.

    A clear difference comes first, even if it is smaller than the margin of equivalence. "open" is neither: the
    difference may be zero, and it may be larger than the margin; see :func:`~workbench.statistics.power.seeds_needed`.
    """
    if len(gain.per_seed) < FEWEST_SEEDS:
        return "not enough seeds"
    if p_value >= alpha:
        return "equivalent" if equivalence_p_value < alpha else "open"
    if higher_is_better is None:
        return "higher" if gain.mean > 0 else "lower"
    return "better" if (gain.mean > 0) == higher_is_better else "worse"


@dataclass(frozen=True)
class Judgment:
    """The verdict on a cell's gain over the baseline, and the Holm-adjusted p-value of a difference."""

    gain: Gain
    p_value: float
    verdict: Verdict


def judge(
    values: Values, baseline: str, spread: Spread, higher_is_better: bool | None, *, margin: float = 0.0
) -> dict[str, Judgment]:
    """The verdict on every cell that shares a seed with ``baseline``; those with too few seeds are not corrected for.

    Differences and equivalences are corrected as two families, since a cell cannot be wrongly found different and
    wrongly found equivalent: without any difference, a false verdict has probability 0.05 at most.

    Args:
        margin: differences smaller than this do not matter; 0 for no test of equivalence.
    """
    gains = {cell: gain for cell in values if cell != baseline and (gain := gain_on(values, baseline, cell, spread))}
    tested = {cell: gain for cell, gain in gains.items() if len(gain.per_seed) >= FEWEST_SEEDS}
    sizes = [(gain.mean, len(gain.per_seed)) for gain in tested.values()]
    different = dict(zip(tested, holm([spread.p_value(*size) for size in sizes]), strict=True))
    equivalent = dict(zip(tested, holm([spread.equivalence_p_value(*size, margin) for size in sizes]), strict=True))
    return {
        cell: Judgment(
            gain,
            p_value := different.get(cell, 1.0),
            verdict(gain, p_value, higher_is_better, equivalence_p_value=equivalent.get(cell, 1.0)),
        )
        for cell, gain in gains.items()
    }


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
