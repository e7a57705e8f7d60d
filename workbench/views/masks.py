"""Mask snapshots of a run: sparsity and gate values over training, pruned metrics, and pruning at a threshold.

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
from workbench.views.curves import Series, spaced
from workbench.views.metrics import MetricLabel, metric_label

if TYPE_CHECKING:
    from workbench.runs.snapshots import GateValues, MaskSnapshot, TowerMask


@dataclass(frozen=True, eq=False)
class Densities:
    """The (expected) kept share of a tower's parts, in [0, 1]; 0 for a layer that the teacher has empty."""

    embedding_N: NDArray[np.float64]
    heads_KN: NDArray[np.float64]
    channels_KN: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MaskTimeline:
    """The masks of a run at N snapshots.

    Args:
        sparsity: (expected) removed share of the teacher's attention and FFN weights.
        target: the target sparsity; equal to ``sparsity`` while masks are fixed.
        learning_N: whether masks were being learned.
        stage_N: counted from 1.
        towers: the towers that are in every snapshot.
    """

    sparsity: Series
    target: Series
    learning_N: NDArray[np.bool_]
    stage_N: NDArray[np.int64]
    towers: dict[Tower, Densities]

    @property
    def steps(self) -> list[int]:
        """The steps of the snapshots, ascending."""
        steps: list[int] = self.sparsity.step.tolist()
        return steps

    def thinned(self, number: int) -> list[int]:
        """Indices of at most ``number`` evenly spaced snapshots, including the first and the last."""
        return spaced(len(self.sparsity), number)

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
    """The timeline of one run's snapshots, ascending by step."""
    if len(snapshots) < 2:
        raise ValueError("masks do not change in this run: --recipe tinyclip-auto learns masks")
    steps = np.array([snapshot.step for snapshot in snapshots], dtype=np.int64)
    towers = [tower for tower in TOWERS if all(tower in snapshot.towers for snapshot in snapshots)]
    return MaskTimeline(
        Series(steps, np.array([snapshot.sparsity for snapshot in snapshots])),
        Series(steps, np.array([snapshot.target for snapshot in snapshots])),
        np.array([snapshot.learning for snapshot in snapshots]),
        np.array([snapshot.stage + 1 for snapshot in snapshots]),
        {tower: _densities([snapshot.towers[tower] for snapshot in snapshots]) for tower in towers},
    )


def _densities(masks: "Sequence[TowerMask]") -> Densities:
    return Densities(
        np.array([_mean(mask.embedding_C) for mask in masks]),
        np.array([[_mean(layer) for layer in mask.heads] for mask in masks]).T,
        np.array([[_mean(layer) for layer in mask.channels] for mask in masks]).T,
    )


def _mean(values: "GateValues") -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


GROUPS = ("width", "heads", "channels", "weights")


@dataclass(frozen=True)
class PrunedPoint:
    """One evaluation; ``sparsity`` is that of the last snapshot at or before its step, ``stage`` counts from 1."""

    step: int
    stage: int
    learning: bool
    sparsity: float
    value: float


@dataclass(frozen=True)
class Pruned:
    """One metric against sparsity, ascending by step."""

    metric: MetricLabel
    split: str
    points: tuple[PrunedPoint, ...]


@dataclass(frozen=True)
class Removed:
    """What one stage removed from one tower: heads and channels as means per teacher layer, weights as a sum."""

    stage: int
    tower: Tower
    part: str
    before: float
    after: float
    of_teacher: float

    @property
    def gone(self) -> float:
        """The share of the teacher's part that this stage removed."""
        return (self.before - self.after) / self.of_teacher if self.of_teacher else 0.0


def pruned(
    snapshots: "Sequence[MaskSnapshot]", events: Iterable[Event], metric: str, split: str = "validation"
) -> Pruned:
    """A run's metric against sparsity, one point an evaluation.

    Args:
        snapshots: ascending by step.

    Raises:
        ValueError: no evaluation after the first snapshot has this metric on this split; lists the metrics it has.
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
        raise ValueError(f"no {metric} on {split} while this run had masks; metrics evaluated: {known}")
    return Pruned(metric_label(metric), split, tuple(points))


def removed(snapshots: "Sequence[MaskSnapshot]") -> list[Removed]:
    """What each finished or running stage removed from each tower's width, heads, channels and weights.

    Args:
        snapshots: ascending by step.
    """
    rows = []
    before: dict[tuple[Tower, str], float] = {}
    for stage in sorted({snapshot.stage for snapshot in snapshots}):
        last = [snapshot for snapshot in snapshots if snapshot.stage == stage][-1]
        for tower, mask in last.towers.items():
            source, kept = means(mask.teacher), means(mask.student)
            for part in GROUPS:
                teacher, after = float(getattr(source, part)), float(getattr(kept, part))
                rows.append(Removed(stage + 1, tower, part, before.get((tower, part), teacher), after, teacher))
                before[tower, part] = after
    return rows


# While masks are learned, a run keeps as many parts of each layer as it expects to stay. One threshold on P(z ≠ 0) for
# all layers is a different rule, and shows how decided the masks are. Here N counts thresholds.


def cut_at(snapshot: "MaskSnapshot", threshold: float) -> Architecture:
    """The student after removing all parts whose P(z ≠ 0) is not above the threshold; at least a channel stays."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability between 0 and 1 (got {threshold:g})")
    towers = {tower: TowerChange(mask.teacher, _shape(mask, threshold)) for tower, mask in snapshot.towers.items()}
    return Architecture(towers, f"step {snapshot.step:,}, parts with P(z \N{NOT EQUAL TO} 0) > {threshold:.2f}")


def sizes(snapshot: "MaskSnapshot", thresholds_N: Sequence[float]) -> NDArray[np.float64]:
    """The share of the teacher's attention and FFN weights left at each threshold, float64 [N] in [0, 1]."""
    return np.array([1 - cut_at(snapshot, threshold).sparsity for threshold in thresholds_N])


def _shape(mask: "TowerMask", threshold: float) -> TowerShape:
    return TowerShape(
        width=max(1, _count(mask.embedding_C, threshold)),
        head_width=mask.teacher.head_width,
        heads=tuple(_count(layer, threshold) for layer in mask.heads),
        channels=tuple(_count(layer, threshold) for layer in mask.channels),
    )


def _count(values: "GateValues", threshold: float) -> int:
    # A gate that is certainly open (1) stays at every threshold, 1 included.
    return int(((values > threshold) | (values == 1)).sum())
