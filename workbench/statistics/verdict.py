"""Verdicts on differences with Holm's correction; power, minimum detectable effect and number of seeds needed."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread

Verdict = Literal["better", "worse", "higher", "lower", "no difference seen", "not enough seeds"]
ALPHA = 0.05
FEWEST_SEEDS = 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values (Holm 1979), which control the family-wise error rate.

    The k-th smallest of m becomes the maximum over i ≤ k of (m - i + 1) times the i-th smallest, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
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
