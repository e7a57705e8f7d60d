"""What so many seeds could have shown, and how many would show a given difference."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread

# Differences in words that claim no more than the seeds can carry.

Verdict = Literal["better", "worse", "higher", "lower", "no difference seen", "not enough seeds"]
ALPHA = 0.05
FEWEST_SEEDS = 2


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several (Holm 1979): the chance of any false alarm stays below their level.

    The k-th smallest of m becomes the largest of (m - i + 1) times the i-th smallest, i up to k, and at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def verdict(gain: Gain, p_value: float, higher_is_better: bool | None, *, alpha: float = ALPHA) -> Verdict:
    """What may be said of a difference, its p-value adjusted; better and worse where the metric has a better direction.

    A difference that is not seen may be there all the same: :func:`workbench.statistics.verdict.detectable` says how
    large it could be.
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
    """The adjusted p-value and the verdict of every cell; those with too few seeds count towards no correction."""
    tested = [name for name, gain in gains.items() if len(gain.per_seed) >= FEWEST_SEEDS]
    adjusted = dict(zip(tested, holm([p_values[name] for name in tested]), strict=True))
    return {
        name: (adjusted.get(name, 1.0), verdict(gain, adjusted.get(name, 1.0), higher_is_better))
        for name, gain in gains.items()
    }


POWER = 0.8
MOST_SEEDS = 1000


def power(difference: float, spread: Spread, num_seeds: int, *, num_tests: int = 1) -> float:
    """The chance that a true difference is seen: a two-sided t-test at 0.05 over ``num_tests``, Holm's hardest step."""
    from scipy.special import stdtrit

    if not spread.df or not num_seeds:
        return 0.0
    if spread.sd == 0:
        return float(difference != 0)
    critical = float(stdtrit(spread.df, 1 - ALPHA / num_tests / 2))
    shift = abs(difference) * math.sqrt(num_seeds) / spread.sd
    return 1 - _noncentral_t(spread.df, shift, critical) + _noncentral_t(spread.df, shift, -critical)


def _noncentral_t(df: int, shift: float, bound: float) -> float:
    """The chance that a noncentral t is below the bound; scipy's is NaN at some points where it is below 1e-9."""
    from scipy.special import nctdtr

    found = float(nctdtr(df, shift, bound))
    return 0.0 if math.isnan(found) else found


def detectable(spread: Spread, num_seeds: int, *, num_tests: int = 1) -> float:
    """The smallest true difference that so many seeds show four times in five; infinite with too few."""
    from scipy.optimize import brentq

    if not spread.df or not num_seeds:
        return math.inf
    if spread.sd == 0:
        return 0.0
    high = spread.sd
    while power(high, spread, num_seeds, num_tests=num_tests) < POWER:
        high *= 2
    root: float = brentq(lambda size: power(size, spread, num_seeds, num_tests=num_tests) - POWER, 0, high)
    return root


def seeds_needed(difference: float, spread: Spread, num_seeds: int, *, num_tests: int = 1) -> int | None:
    """The fewest seeds that show this difference four times in five; None beyond a thousand, or if nothing is known.

    Args:
        num_seeds: from how many the spread was learnt; more bring degrees of freedom in proportion.
    """
    if num_seeds < 2 or not spread.df:
        return None

    def shows(number: int) -> bool:
        df = max(1, spread.df * (number - 1) // (num_seeds - 1))
        return power(difference, Spread(spread.sd, df), number, num_tests=num_tests) >= POWER

    few, many = 1, 2
    while not shows(many):
        few, many = many, 2 * many
        if few >= MOST_SEEDS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if shows(middle) else (middle, many)
    return many
