"""Snapshots of one run's masks -> how they form: sparsity against its target, and how open every layer is, by step.

Shape letters: N snapshots, K layers of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.config.shape import TOWERS, Tower
from workbench.views.curves import Series

if TYPE_CHECKING:
    from workbench.runs.mask_snapshots import MaskSnapshot, Openings, TowerMask


@dataclass(frozen=True, eq=False)
class Densities:
    """How much of a tower is (expected to be) there, as shares from 0 to 1; 0 where a layer never had anything."""

    embedding_N: NDArray[np.float64]
    heads_KN: NDArray[np.float64]
    channels_KN: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MaskTimeline:
    """The masks of a run from its first snapshot to its newest.

    Args:
        sparsity: (expected) share of the teacher's attention and FFN weights that is gone.
        target: what it was wanted to be; where masks are fixed, what it is.
        learning_N: whether masks were being learnt.
        stage_N: counted from 1.
        towers: those that are in every snapshot.
    """

    sparsity: Series
    target: Series
    learning_N: NDArray[np.bool_]
    stage_N: NDArray[np.int64]
    towers: dict[Tower, Densities]

    @property
    def steps(self) -> list[int]:
        """The steps of the snapshots, ascending."""
        found: list[int] = self.sparsity.step.tolist()
        return found

    def thinned(self, number: int) -> list[int]:
        """The places of at most ``number`` snapshots, evenly spread, the first and the last among them."""
        places = np.linspace(0, len(self.sparsity) - 1, min(number, len(self.sparsity)))
        found: list[int] = places.round().astype(int).tolist()
        return found

    def to_json(self) -> dict[str, Any]:
        """The ``over_time`` of ``runs show --architecture --over-time --json``."""
        return {
            "steps": self.steps,
            "stages": self.stage_N.tolist(),
            "learning": self.learning_N.tolist(),
            "sparsity": self.sparsity.value.tolist(),
            "target": self.target.value.tolist(),
            "densities": {
                tower: {
                    "embedding": densities.embedding_N.tolist(),
                    "heads": densities.heads_KN.T.tolist(),
                    "channels": densities.channels_KN.T.tolist(),
                }
                for tower, densities in self.towers.items()
            },
        }


def mask_timeline(snapshots: "Sequence[MaskSnapshot]") -> MaskTimeline:
    """The view of one run's snapshots, ascending by step.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(snapshots) < 2:
        raise ValueError("masks do not change in this run, or not yet: they are learnt by --recipe tinyclip-auto")
    steps = np.array([snapshot.step for snapshot in snapshots], dtype=np.int64)
    there = [tower for tower in TOWERS if all(tower in snapshot.towers for snapshot in snapshots)]
    return MaskTimeline(
        Series(steps, np.array([snapshot.sparsity for snapshot in snapshots])),
        Series(steps, np.array([snapshot.target for snapshot in snapshots])),
        np.array([snapshot.learning for snapshot in snapshots]),
        np.array([snapshot.stage + 1 for snapshot in snapshots]),
        {tower: _densities([snapshot.towers[tower] for snapshot in snapshots]) for tower in there},
    )


def _densities(masks: "Sequence[TowerMask]") -> Densities:
    return Densities(
        np.array([_mean(mask.embedding_C) for mask in masks]),
        np.array([[_mean(layer) for layer in mask.heads] for mask in masks]).T,
        np.array([[_mean(layer) for layer in mask.channels] for mask in masks]).T,
    )


def _mean(openings: "Openings") -> float:
    return float(openings.mean(dtype=np.float64)) if len(openings) else 0.0
