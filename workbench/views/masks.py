"""Mask snapshots -> sparsity and openness by layer over training, and what a threshold would keep.

Shape letters: N snapshots, K layers of the teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.events import EvalDone, Event
from workbench.views.architecture import Architecture, TowerChange, means
from workbench.views.curves import Series
from workbench.views.metrics import MetricLabel, metric_label

if TYPE_CHECKING:
    from workbench.runs.mask_snapshots import GateValues, MaskSnapshot, TowerMask


# Snapshots of one run's masks -> how they form: sparsity against its target, and how open every layer is, by step.
#
# Shape letters: N snapshots, K layers of the teacher.


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


def _mean(openings: "GateValues") -> float:
    return float(openings.mean(dtype=np.float64)) if len(openings) else 0.0


# A run's masks beside its evaluations -> what a sparser student still knows, and what each stage took.

GROUPS = ("width", "heads", "channels", "weights")


@dataclass(frozen=True)
class PrunedPoint:
    """One evaluation: ``sparsity`` is that of the last snapshot up to its step, ``stage`` counts from 1."""

    step: int
    stage: int
    learning: bool
    sparsity: float
    value: float


@dataclass(frozen=True)
class Pruned:
    """One metric against sparsity, in the order of the steps."""

    metric: MetricLabel
    split: str
    points: tuple[PrunedPoint, ...]


@dataclass(frozen=True)
class Removed:
    """What one stage took of one tower: means over the teacher's layers of heads and channels, sums of weights."""

    stage: int
    tower: Tower
    part: str
    before: float
    after: float
    of_teacher: float

    @property
    def gone(self) -> float:
        """The share of the teacher's that this stage took."""
        return (self.before - self.after) / self.of_teacher if self.of_teacher else 0.0


def pruned(
    snapshots: "Sequence[MaskSnapshot]", events: Iterable[Event], metric: str, split: str = "validation"
) -> Pruned:
    """A metric of a run against how much of its teacher was gone.

    Args:
        snapshots: ascending by step.

    Raises:
        ValueError: the run was never evaluated so after its first snapshot; which metrics there are is said.
    """
    evaluations = [event for event in events if isinstance(event, EvalDone) and event.split == split]
    points = []
    for event in evaluations:
        earlier = [snapshot for snapshot in snapshots if snapshot.step <= event.step]
        if earlier and metric in event.metrics:
            last = earlier[-1]
            value = event.metrics[metric]
            points.append(PrunedPoint(event.step, last.stage + 1, last.learning, last.sparsity, value))
    if not points:
        known = ", ".join(dict.fromkeys(name for event in evaluations for name in event.metrics)) or "none"
        raise ValueError(f"no {metric} on {split} while this run had masks; evaluated: {known}")
    return Pruned(metric_label(metric), split, tuple(points))


def removed(snapshots: "Sequence[MaskSnapshot]") -> list[Removed]:
    """What each finished or running stage took, tower by tower, from the teacher's width, heads, channels and weights.

    Args:
        snapshots: ascending by step.
    """
    found = []
    before: dict[tuple[Tower, str], float] = {}
    for stage in sorted({snapshot.stage for snapshot in snapshots}):
        last = [snapshot for snapshot in snapshots if snapshot.stage == stage][-1]
        for tower, mask in last.towers.items():
            whole, left = means(mask.teacher), means(mask.student)
            for part in GROUPS:
                teacher, after = float(getattr(whole, part)), float(getattr(left, part))
                found.append(Removed(stage + 1, tower, part, before.get((tower, part), teacher), after, teacher))
                before[tower, part] = after
    return found


# Masks cut at a threshold -> what would be left, and how large that is.
#
# While masks are learnt, a run keeps of every layer as many parts as are expected to stay. A threshold on P(z ≠ 0), one
# for all, asks another question: what of the teacher is still wanted with at least this probability?
#
# Shape letter: N thresholds.


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


def _count(openings: "GateValues", threshold: float) -> int:
    """Those above the threshold; at 0, those that can be open at all, at 1 those that are for certain."""
    return int(((openings > threshold) | (openings == 1)).sum())
