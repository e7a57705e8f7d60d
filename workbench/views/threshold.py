"""Masks cut at a threshold -> what would be left, and how large that is.

While masks are learnt, a run keeps of every layer as many parts as are expected to stay. A threshold on P(z ≠ 0), one
for all, asks another question: what of the teacher is still wanted with at least this probability?

Shape letter: N thresholds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.config.shape import TowerShape
from workbench.views.architecture import Architecture, TowerChange

if TYPE_CHECKING:
    from workbench.runs.mask_snapshots import MaskSnapshot, Openings, TowerMask


def cut_at(snapshot: "MaskSnapshot", threshold: float) -> Architecture:
    """What there would be if all went that stays with less than this probability; one embedding channel at least.

    Raises:
        ValueError: the threshold is not between 0 and 1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"a threshold is a probability between 0 and 1 (got {threshold:g})")
    towers = {tower: TowerChange(mask.teacher, _shape(mask, threshold)) for tower, mask in snapshot.towers.items()}
    return Architecture(towers, f"step {snapshot.step:,}, what stays with P(z \N{NOT EQUAL TO} 0) > {threshold:.2f}")


def sizes(snapshot: "MaskSnapshot", thresholds_N: Sequence[float]) -> NDArray[np.float64]:
    """The share of the teacher's attention and FFN weights that each threshold would leave, float64 [N] in [0, 1]."""
    return np.array([1 - cut_at(snapshot, threshold).sparsity for threshold in thresholds_N])


def _shape(mask: "TowerMask", threshold: float) -> TowerShape:
    return TowerShape(
        width=max(1, _count(mask.embedding_C, threshold)),
        head_width=mask.teacher.head_width,
        heads=tuple(_count(layer, threshold) for layer in mask.heads),
        channels=tuple(_count(layer, threshold) for layer in mask.channels),
    )


def _count(openings: "Openings", threshold: float) -> int:
    """Those above the threshold; at 0, those that can be open at all, at 1 those that are for certain."""
    return int(((openings > threshold) | (openings == 1)).sum())
