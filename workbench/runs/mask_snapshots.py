"""What of the teacher's towers is still there, now and then in a run that inherits.

Shape letter: C embedding channels of the teacher's tower.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.documents import parse_json
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Arrays, Metadata, read_snapshot_history, read_snapshots, write_snapshot

KIND = "masks"
GateValues = NDArray[np.float32]
Numbers = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TowerMask:
    """How much of the original teacher's tower is there: P(z ≠ 0) while masks are learnt, 0 or 1 otherwise.

    Args:
        teacher: the tower of the original teacher, whatever stages there were before.
        embedding_C: float32 in [0, 1], one number an embedding channel.
        heads: for each layer of the teacher, one such number a head; those of a layer that is gone are 0.
        channels: for each layer of the teacher, one such number an FFN channel.

    Raises:
        ValueError: the numbers are not as many as the teacher has, or not between 0 and 1.
    """

    teacher: TowerShape
    embedding_C: GateValues
    heads: tuple[GateValues, ...]
    channels: tuple[GateValues, ...]

    def __post_init__(self) -> None:
        sizes = (self.teacher.width, *self.teacher.heads, *self.teacher.channels)
        parts = (self.embedding_C, *self.heads, *self.channels)
        if len(self.heads) != self.teacher.num_layers or [part.shape for part in parts] != [(size,) for size in sizes]:
            raise ValueError("the mask does not fit the teacher's tower")
        if not all(((part >= 0) & (part <= 1)).all() for part in parts):
            raise ValueError("a mask holds numbers between 0 and 1")

    @property
    def kept(self) -> "Kept":
        """What stays: in each group and layer as many as are expected to, those most likely to."""
        return Kept(
            _most_open(self.embedding_C, at_least=1),
            tuple(map(_most_open, self.heads)),
            tuple(map(_most_open, self.channels)),
        )

    @property
    def student(self) -> TowerShape:
        """The shape of what stays, with a place for every layer of the teacher."""
        kept = self.kept
        return TowerShape(
            width=len(kept.embedding),
            head_width=self.teacher.head_width,
            heads=tuple(map(len, kept.heads)),
            channels=tuple(map(len, kept.channels)),
        )


@dataclass(frozen=True)
class Kept:
    """The numbers of what stays of a tower, ascending; heads and FFN channels by layer of the teacher."""

    embedding: Numbers
    heads: tuple[Numbers, ...]
    channels: tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class MaskSnapshot:
    """The masks of the towers that changed, after ``step`` steps of the run.

    Args:
        stage: from 0.
        learning: whether masks are being learnt at this step; else they are fixed.
        sparsity: (expected) share of the teacher's attention and FFN weights that is gone from these towers together.
        target: the sparsity wanted at this step; equal to ``sparsity`` where masks are fixed.
    """

    step: int
    stage: int
    learning: bool
    sparsity: float
    target: float
    towers: Mapping[Tower, TowerMask]


@dataclass(frozen=True)
class MaskSnapshots:
    """The masks of a run in the order of their steps, and how many files could not be understood."""

    snapshots: list[MaskSnapshot]
    num_skipped: int


def write_masks(run: RunDirectory, snapshot: MaskSnapshot) -> Path:
    """Write one snapshot, in place of any of the same step.

    Raises:
        ValueError: its sparsity or target is not finite.
        OSError: it cannot be written; what was there before is intact.
    """
    arrays = {
        f"{tower}/{group}": array.astype(np.float32)
        for tower, mask in snapshot.towers.items()
        for group, array in _joined(mask).items()
    }
    scalars = {"stage": snapshot.stage, "learning": snapshot.learning}
    metadata = {
        "towers": json.dumps({tower: mask.teacher.model_dump(mode="json") for tower, mask in snapshot.towers.items()}),
        "masks": json.dumps(scalars | {"sparsity": snapshot.sparsity, "target": snapshot.target}, allow_nan=False),
    }
    return write_snapshot(run, KIND, snapshot.step, arrays, metadata)


def read_masks(run: RunDirectory) -> MaskSnapshots:
    """Every snapshot of the run's own masks. Files that are torn or foreign are counted, never raised."""
    return MaskSnapshots(*read_snapshots(run, KIND, _masks))


def read_mask_history(run: RunDirectory) -> MaskSnapshots:
    """The same for a run and what it was forked from, up to the step that it has come to."""
    return MaskSnapshots(*read_snapshot_history(run, KIND, _masks))


def _masks(step: int, arrays: Arrays, metadata: Metadata) -> MaskSnapshot:
    teachers = parse_json(metadata["towers"], "towers")
    masks = {
        tower: _tower_mask(TowerShape.parse(teachers[tower]), tower, arrays) for tower in TOWERS if tower in teachers
    }
    scalars = parse_json(metadata["masks"], "masks")
    return MaskSnapshot(
        step,
        int(scalars["stage"]),
        bool(scalars["learning"]),
        float(scalars["sparsity"]),
        float(scalars["target"]),
        masks,
    )


def _joined(mask: TowerMask) -> dict[str, GateValues]:
    return {
        "embedding": mask.embedding_C,
        "heads": np.concatenate(mask.heads),
        "channels": np.concatenate(mask.channels),
    }


def _tower_mask(teacher: TowerShape, tower: Tower, arrays: Arrays) -> TowerMask:
    def by_layer(group: str, sizes: tuple[int, ...]) -> tuple[GateValues, ...]:
        return tuple(np.split(arrays[f"{tower}/{group}"], np.cumsum(sizes)[:-1]))

    return TowerMask(
        teacher,
        arrays[f"{tower}/embedding"],
        by_layer("heads", teacher.heads),
        by_layer("channels", teacher.channels),
    )


def _most_open(openings: GateValues, at_least: int = 0) -> Numbers:
    """All but the round(Σ P(z = 0)) least open; of equal ones the first stay. Evaluation masks go by the same rule."""
    num_open = max(at_least, len(openings) - round(float((1 - openings.astype(np.float64)).sum())))
    most_open_first = np.argsort(-openings, kind="stable")
    return tuple(sorted(most_open_first[:num_open].tolist()))
