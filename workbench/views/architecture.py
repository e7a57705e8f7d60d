"""Teacher and student towers compared layer by layer, as in TinyCLIP's figure 8 and table 9.

Shape letter: K layers of the teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.config.inheritance import Tower, TowerShape

if TYPE_CHECKING:
    from workbench.runs.snapshots import KeptIndices, MaskSnapshot

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Overlap:
    """Overlap of two selections of the same parts, as shares in [0, 1] of the first selection."""

    shared: float
    chance: float  # expected overlap with a random selection of the same size in each layer


def overlap(layers: Iterable[tuple[Numbers, Numbers, int]]) -> Overlap:
    """The overlap over all layers.

    Args:
        layers: for each layer, the parts that each selection keeps, and how many parts the layer has.
    """
    kept = shared = 0
    chance = 0.0
    for one, other, available in layers:
        kept += len(one)
        shared += len(set(one) & set(other))
        chance += len(one) * len(other) / available if available else 0
    return Overlap(shared / kept, chance / kept) if kept else Overlap(1.0, 1.0)


def tower_overlaps(one: "KeptIndices", other: "KeptIndices", source: "TowerShape") -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` also keeps, for "embedding", "heads" and "channels" of the same tower."""
    return {
        "embedding": overlap([(one.embedding, other.embedding, source.width)]),
        "heads": overlap(zip(one.heads, other.heads, source.heads, strict=True)),
        "channels": overlap(zip(one.channels, other.channels, source.channels, strict=True)),
    }


OverlapByGroup = dict[str, Overlap]


@dataclass(frozen=True, eq=False)
class KeptShares:
    """Shares of the teacher's width, heads and FFN channels that the student keeps, in [0, 1]; K layers."""

    embedding: float
    heads_K: NDArray[np.float64]
    channels_K: NDArray[np.float64]


@dataclass(frozen=True)
class Means:
    """A tower as a row of table 9: width, mean heads and FFN channels per layer, and attention and FFN weights."""

    width: int
    heads: float
    channels: float
    weights: int


@dataclass(frozen=True)
class TowerChange:
    """One tower of the teacher and of the student. ``student`` has an entry for every layer of ``teacher``."""

    teacher: TowerShape
    student: TowerShape

    def __post_init__(self) -> None:
        assert self.teacher.num_layers == self.student.num_layers

    @property
    def kept_shares(self) -> KeptShares:
        """The shares of the teacher that the student keeps."""
        teacher, student = self.teacher, self.student
        return KeptShares(
            student.width / teacher.width,
            _share(student.heads, teacher.heads),
            _share(student.channels, teacher.channels),
        )

    @property
    def num_layers(self) -> int:
        """The number of layers with at least one head or FFN channel left."""
        return sum(any(layer) for layer in zip(self.student.heads, self.student.channels, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The tower in ``--json``."""
        return {
            side: shape.model_dump(mode="json") | {"weights": shape.block_weights}
            for side, shape in (("teacher", self.teacher), ("student", self.student))
        }


@dataclass(frozen=True)
class Architecture:
    """A student's transformer towers compared with its teacher's. Towers that cannot change are left out.

    Args:
        towers: the changed towers.
        when: the moment of the run, for titles; empty for a student built from a fixed plan.
    """

    towers: dict[Tower, TowerChange]
    when: str = ""

    @property
    def sparsity(self) -> float:
        """The share of the teacher's attention and FFN weights that was removed from these towers, in [0, 1]."""
        before = sum(change.teacher.block_weights for change in self.towers.values())
        return 1 - sum(change.student.block_weights for change in self.towers.values()) / before

    def to_json(self) -> dict[str, Any]:
        """The architecture in ``--json``."""
        return {"sparsity": self.sparsity, "towers": {tower: change.to_json() for tower, change in self.towers.items()}}


def means(shape: TowerShape) -> Means:
    """The means over a tower's layers."""
    return Means(shape.width, float(np.mean(shape.heads)), float(np.mean(shape.channels)), shape.block_weights)


def architecture(snapshot: "MaskSnapshot") -> Architecture:
    """The student at a snapshot. While masks are being learned: the student that the current masks would leave."""
    towers = {tower: TowerChange(mask.teacher, mask.student) for tower, mask in snapshot.towers.items()}
    doing = "masks still being learned" if snapshot.learning else "masks fixed"
    as_planned = snapshot.step == 0 and not snapshot.learning
    return Architecture(towers, "" if as_planned else f"stage {snapshot.stage + 1}, step {snapshot.step:,}, {doing}")


def pick(snapshots: "Sequence[MaskSnapshot]", stage: int | None = None) -> "MaskSnapshot":
    """The newest snapshot of a run, or of one of its stages.

    Args:
        snapshots: ascending by step.
        stage: counted from 1.
    """
    if not snapshots:
        raise ValueError(
            "this run's student inherits nothing, or has not started: see --recipe tinyclip-manual or tinyclip-auto"
        )
    matches = [snapshot for snapshot in snapshots if stage in (None, snapshot.stage + 1)]
    if not matches:
        stages = ", ".join(str(number) for number in sorted({snapshot.stage + 1 for snapshot in snapshots}))
        raise ValueError(f"no stage {stage} here; there are masks of: {stages}")
    return matches[-1]


def overlap_of_runs(one: "MaskSnapshot", other: "MaskSnapshot") -> dict[Tower, OverlapByGroup]:
    """The overlap of what two runs keep, for the towers that both change."""
    both = [tower for tower in one.towers if tower in other.towers]
    if not both:
        raise ValueError("the two runs change different towers and cannot be compared")
    if any(one.towers[tower].teacher != other.towers[tower].teacher for tower in both):
        raise ValueError("the two runs inherit from teachers of different shapes and cannot be compared")
    return {
        tower: tower_overlaps(one.towers[tower].kept, other.towers[tower].kept, one.towers[tower].teacher)
        for tower in both
    }


def overlaps_to_json(overlaps: dict[Tower, OverlapByGroup]) -> dict[str, Any]:
    """The overlaps in ``--json``."""
    return {tower: {group: asdict(shares) for group, shares in of.items()} for tower, of in overlaps.items()}


def _share(after: tuple[int, ...], before: tuple[int, ...]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.array(after) / np.maximum(before, 1)  # 0 for a layer that was empty before
    return shares
