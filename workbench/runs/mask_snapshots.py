"""Snapshots of the masks over the teacher's towers, in a run with automatic inheritance.

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
    """How much of the original teacher's tower is kept: P(z ≠ 0) while masks are learned, 0 or 1 otherwise.

    Args:
        teacher: tower shape of the original teacher, before any stage.
        embedding_C: float32 in [0, 1], one value per embedding channel.
        heads: per layer of the teacher, one value per head; 0 in removed layers.
        channels: per layer of the teacher, one value per FFN channel.

    Raises:
        ValueError: the shapes do not match the teacher's, or a value is not between 0 and 1.
    """

    teacher: TowerShape
    embedding_C: GateValues
    heads: tuple[GateValues, ...]
    channels: tuple[GateValues, ...]

    def __post_init__(self) -> None:
        sizes = (self.teacher.width, *self.teacher.heads, *self.teacher.channels)
        parts = (self.embedding_C, *self.heads, *self.channels)
        if len(self.heads) != self.teacher.num_layers or [part.shape for part in parts] != [(size,) for size in sizes]:
            raise ValueError("the mask does not match the teacher's tower")
        if not all(((part >= 0) & (part <= 1)).all() for part in parts):
            raise ValueError("mask values must be between 0 and 1")

    @property
    def kept(self) -> "KeptIndices":
        """What is kept: in each group and layer, the expected number of those with the highest probabilities."""
        return KeptIndices(
            _most_open(self.embedding_C, at_least=1),
            tuple(map(_most_open, self.heads)),
            tuple(map(_most_open, self.channels)),
        )

    @property
    def student(self) -> TowerShape:
        """Shape of the remaining tower, with an entry for every layer of the teacher."""
        kept = self.kept
        return TowerShape(
            width=len(kept.embedding),
            head_width=self.teacher.head_width,
            heads=tuple(map(len, kept.heads)),
            channels=tuple(map(len, kept.channels)),
        )


@dataclass(frozen=True)
class KeptIndices:
    """Indices of what is kept of a tower, ascending; heads and FFN channels by layer of the teacher."""

    embedding: Numbers
    heads: tuple[Numbers, ...]
    channels: tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class MaskSnapshot:
    """The masks of the changed towers after ``step`` steps of the run.

    Args:
        stage: from 0.
        learning: whether masks are learned at this step; else they are fixed.
        sparsity: (expected) fraction of the teacher's attention and FFN weights removed, over these towers.
        target: the target sparsity at this step; equal to ``sparsity`` if masks are fixed.
    """

    step: int
    stage: int
    learning: bool
    sparsity: float
    target: float
    towers: Mapping[Tower, TowerMask]


@dataclass(frozen=True)
class MaskSnapshots:
    """The masks of a run by step, and the number of unreadable files."""

    snapshots: list[MaskSnapshot]
    num_skipped: int


def write_masks(run: RunDirectory, snapshot: MaskSnapshot) -> Path:
    """Write one snapshot; replaces one of the same step.

    Raises:
        ValueError: its sparsity or target is not finite.
        OSError: it cannot be written; an earlier file is intact.
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
    """All snapshots of the run's own masks. Unreadable files are counted, not raised."""
    return MaskSnapshots(*read_snapshots(run, KIND, _masks))


def read_mask_history(run: RunDirectory) -> MaskSnapshots:
    """The same including the run's ancestors, up to its current step."""
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


def _most_open(values: GateValues, at_least: int = 0) -> Numbers:
    """Indices without the round(Σ P(z = 0)) lowest; ties keep the first. Same rule as the masks at evaluation."""
    # Float64, because a float32 sum over thousands of channels can round to another count.
    num_open = max(at_least, len(values) - round(float((1 - values.astype(np.float64)).sum())))
    most_open_first = np.argsort(-values, kind="stable")
    return tuple(sorted(most_open_first[:num_open].tolist()))
