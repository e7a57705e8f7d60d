"""A number of things divided in proportion, to whole numbers."""

from collections.abc import Sequence
from math import floor


def largest_remainder(total: int, ratios: Sequence[float]) -> list[int]:
    """``total`` divided by ``ratios``, rounded down, and what is left to those that lost most; ties go to the first.

    >>> largest_remainder(128, [2, 1])
    [85, 43]
    """
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [floor(share) for share in exact]
    losses = sorted(range(len(ratios)), key=lambda index: counts[index] - exact[index])
    for index in losses[: total - sum(counts)]:
        counts[index] += 1
    return counts
