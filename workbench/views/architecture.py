"""A teacher's towers and a student's -> what remains, layer by layer: TinyCLIP's figure 8 and table 9.

Shape letter: K layers of the teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.config.inheritance import Tower, TowerShape

if TYPE_CHECKING:
    from workbench.config.inheritance import TowerShape
    from workbench.runs.mask_snapshots import KeptIndices, MaskSnapshot


# Two choices among the same parts -> how much of the one the other shares, beside what chance would.

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Overlap:
    """How much of one choice another shares: 1 is all of it."""

    shared: float
    chance: float  # what a random choice of as many in each layer would share on average


def overlap(layers: Iterable[tuple[Numbers, Numbers, int]]) -> Overlap:
    """From what the one and the other keep of each layer's parts, and how many those are; 1 of a choice of nothing."""
    kept = shared = 0
    chance = 0.0
    for one, other, available in layers:
        kept += len(one)
        shared += len(set(one) & set(other))
        chance += len(one) * len(other) / available if available else 0
    return Overlap(shared / kept, chance / kept) if kept else Overlap(1.0, 1.0)


def tower_overlaps(one: "KeptIndices", other: "KeptIndices", source: "TowerShape") -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` keeps too, for "embedding", "heads" and "channels" of the same tower."""
    return {
        "embedding": overlap([(one.embedding, other.embedding, source.width)]),
        "heads": overlap(zip(one.heads, other.heads, source.heads, strict=True)),
        "channels": overlap(zip(one.channels, other.channels, source.channels, strict=True)),
    }


# A teacher's towers and what a student has of them -> what remains, layer by layer: TinyCLIP's figure 8 and table 9.
#
# Shape letter: K layers of the teacher.

OverlapByGroup = dict[str, Overlap]


@dataclass(frozen=True, eq=False)
class Remains:
    """Shares of what there was, from 0 to 1; heads and FFN channels for each of K layers."""

    embedding: float
    heads_K: NDArray[np.float64]
    channels_K: NDArray[np.float64]


@dataclass(frozen=True)
class Means:
    """A tower in a row of table 9: its width, what a layer has on average, and its attention and FFN weights."""

    width: int
    heads: float
    channels: float
    weights: int


@dataclass(frozen=True)
class TowerChange:
    """One tower of the teacher and of the student. ``student`` has a place for every layer of ``teacher``."""

    teacher: TowerShape
    student: TowerShape

    def __post_init__(self) -> None:
        assert self.teacher.num_layers == self.student.num_layers

    @property
    def remains(self) -> Remains:
        """What is left of each layer."""
        teacher, student = self.teacher, self.student
        return Remains(
            student.width / teacher.width,
            _share(student.heads, teacher.heads),
            _share(student.channels, teacher.channels),
        )

    @property
    def num_layers(self) -> int:
        """How many layers have something left."""
        return sum(any(layer) for layer in zip(self.student.heads, self.student.channels, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The tower in ``--json``."""
        return {
            side: shape.model_dump(mode="json") | {"weights": shape.block_weights}
            for side, shape in (("teacher", self.teacher), ("student", self.student))
        }


@dataclass(frozen=True)
class Architecture:
    """What a student has of its teacher's transformer towers. A tower that cannot change is left out.

    Args:
        towers: before and after.
        when: at which moment of a run; empty where there is but one student, by a plan.
    """

    towers: dict[Tower, TowerChange]
    when: str = ""

    @property
    def sparsity(self) -> float:
        """The share of the teacher's attention and FFN weights in these towers that the student does not have."""
        before = sum(change.teacher.block_weights for change in self.towers.values())
        return 1 - sum(change.student.block_weights for change in self.towers.values()) / before

    def to_json(self) -> dict[str, Any]:
        """The architecture in ``--json``."""
        return {"sparsity": self.sparsity, "towers": {tower: change.to_json() for tower, change in self.towers.items()}}


def means(shape: TowerShape) -> Means:
    """The means over a tower's layers."""
    return Means(shape.width, float(np.mean(shape.heads)), float(np.mean(shape.channels)), shape.block_weights)


def architecture(snapshot: "MaskSnapshot") -> Architecture:
    """What there is at a snapshot. While masks are learnt: what would stay if it were up to them as they are."""
    towers = {tower: TowerChange(mask.teacher, mask.student) for tower, mask in snapshot.towers.items()}
    doing = "masks still learnt" if snapshot.learning else "masks fixed"
    as_planned = snapshot.step == 0 and not snapshot.learning
    return Architecture(towers, "" if as_planned else f"stage {snapshot.stage + 1}, step {snapshot.step:,}, {doing}")


def pick(snapshots: "Sequence[MaskSnapshot]", stage: int | None = None) -> "MaskSnapshot":
    """The newest of a run's snapshots, or the newest of one stage.

    Args:
        snapshots: ascending by step.
        stage: counted from 1.

    Raises:
        ValueError: there is none, and which stages there are.
    """
    if not snapshots:
        raise ValueError(
            "this run's student inherits nothing, or has not begun: see --recipe tinyclip-manual or tinyclip-auto"
        )
    found = [snapshot for snapshot in snapshots if stage in (None, snapshot.stage + 1)]
    if not found:
        there = ", ".join(str(number) for number in sorted({snapshot.stage + 1 for snapshot in snapshots}))
        raise ValueError(f"no stage {stage} here; there are masks of: {there}")
    return found[-1]


def overlap_of_runs(one: "MaskSnapshot", other: "MaskSnapshot") -> dict[Tower, OverlapByGroup]:
    """The share of what the one keeps that the other keeps too, of the towers that both change.

    Raises:
        ValueError: they have different teachers, or no tower in common.
    """
    both = [tower for tower in one.towers if tower in other.towers]
    if not both:
        raise ValueError("the two runs change different towers: there is nothing to compare")
    if any(one.towers[tower].teacher != other.towers[tower].teacher for tower in both):
        raise ValueError("the two runs inherit from teachers of different shapes: what they keep cannot be compared")
    return {
        tower: tower_overlaps(one.towers[tower].kept, other.towers[tower].kept, one.towers[tower].teacher)
        for tower in both
    }


def overlaps_to_json(overlaps: dict[Tower, OverlapByGroup]) -> dict[str, Any]:
    """The overlaps in ``--json``."""
    return {tower: {group: asdict(found) for group, found in of.items()} for tower, of in overlaps.items()}


def _share(after: tuple[int, ...], before: tuple[int, ...]) -> NDArray[np.float64]:
    """0 where there was nothing before."""
    shares: NDArray[np.float64] = np.array(after) / np.maximum(before, 1)
    return shares
