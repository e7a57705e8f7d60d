"""Power: how large a difference a number of seeds can find, and how many seeds settle a difference."""

import math

from workbench.statistics.verdict import ALPHA, Spread

POWER = 0.8
MOST_SEEDS = 1000  # more are as good as unknown


def power(difference: float, spread: Spread, num_seeds: int, *, num_tests: float = 1) -> float:
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


def seeds_needed(
    difference: float, spread: Spread, num_seeds: int, *, num_tests: int = 1, margin: float = 0.0
) -> int | None:
    """Seeds needed for a verdict if the true difference is this one; None if more than a thousand or unknown.

    With a fixed number of seeds, those for 80 % power, to find the difference or that it is smaller than ``margin``;
    in a sequential test, those after which a measured difference of this size is settled.

    Args:
        num_seeds: number of seeds behind ``spread``; degrees of freedom scale in proportion.
    """
    if num_seeds < 2 or not spread.df:
        return None

    def settles(number: int) -> bool:
        df = max(1, spread.df * (number - 1) // (num_seeds - 1))
        then = Spread(spread.sd, df, spread.sequential)
        if spread.sequential:
            p_value = min(then.p_value(difference, number), then.equivalence_p_value(difference, number, margin))
            return num_tests * p_value < ALPHA
        # Each of the two one-sided tests is at 0.05, a two-sided one at 0.1: half as many tests.
        distance = max(0.0, margin - abs(difference))
        return (
            max(
                power(difference, then, number, num_tests=num_tests),
                power(distance, then, number, num_tests=num_tests / 2),
            )
            >= POWER
        )

    # Double until there is a verdict, then bisect; more seeds do not lose it.
    few, many = 1, 2
    while not settles(many):
        few, many = many, 2 * many
        if few >= MOST_SEEDS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if settles(middle) else (middle, many)
    return many
