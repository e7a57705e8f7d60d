"""Differences in words that claim no more than the seeds can carry."""

from collections.abc import Mapping, Sequence
from typing import Literal

from workbench.statistics.intervals import Gain

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

    A difference that is not seen may be there all the same: :func:`workbench.statistics.power.detectable` says how
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
