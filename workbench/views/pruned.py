"""A run's masks beside its evaluations -> what a sparser student still knows, and what each stage took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.config.shape import Tower
from workbench.events import EvalDone, Event
from workbench.views.architecture import means
from workbench.views.metrics import MetricLabel, metric_label

if TYPE_CHECKING:
    from workbench.runs.mask_snapshots import MaskSnapshot

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
