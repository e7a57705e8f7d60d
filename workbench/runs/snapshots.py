"""Snapshots of a run: embeddings of probe pairs, gradients of losses, and masks, in one file for every kind and step.

Files are named ``KIND-STEP.safetensors``; metadata values are strings, JSON if they are more than a word.

Shape letters: P probe pairs, D width, K losses, C embedding channels of the teacher's tower.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.documents import UnreadableError, file_size, parse_json
from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status
from workbench.runs.log import lineage

SCHEMA = "1"
MOST_BYTES = 64 * 2**20
# What unpacking a file of another program may raise.
NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
Arrays = Mapping[str, NDArray[Any]]
Metadata = Mapping[str, str]
AnySnapshot = TypeVar("AnySnapshot", bound="Snapshot")


@dataclass(frozen=True, eq=False)
class Snapshot(ABC):
    """Named arrays after ``step`` steps of a run."""

    KIND: ClassVar[str]
    step: int

    @abstractmethod
    def pack(self) -> tuple[Arrays, Metadata]:
        """The content of the file."""

    @classmethod
    @abstractmethod
    def unpack(cls, step: int, arrays: Arrays, metadata: Metadata) -> Self:
        """The inverse of :meth:`pack`; raises any of ``NOT_OURS`` for other content."""


@dataclass(frozen=True)
class Snapshots(Generic[AnySnapshot]):
    """The snapshots of one kind by step, and the number of unreadable files."""

    snapshots: list[AnySnapshot]
    num_skipped: int


def write_snapshot(run: RunDirectory, snapshot: Snapshot) -> Path:
    """Write one snapshot; replaces one of the same kind and step.

    Raises:
        ValueError: a number is not finite.
        OSError: it cannot be written; an earlier file is intact.
    """
    from safetensors.numpy import save

    arrays, metadata = snapshot.pack()
    if not _are_finite(arrays):
        raise ValueError(f"the {snapshot.KIND} snapshot after step {snapshot.step} has non-finite values")
    path = run.snapshots / f"{snapshot.KIND}-{snapshot.step:08d}.safetensors"
    run.snapshots.mkdir(exist_ok=True)
    write_atomically(path, save(dict(arrays), {"schema": SCHEMA, **metadata}))
    return path


def read_snapshots(run: RunDirectory, kind: type[AnySnapshot], until_step: float = math.inf) -> Snapshots[AnySnapshot]:
    """The run's own snapshots of a kind up to a step. Unreadable files are counted, not raised."""
    by_step: dict[int, AnySnapshot] = {}
    num_skipped = 0
    for path in run.snapshots.glob(f"{kind.KIND}-*"):
        try:
            name = re.fullmatch(rf"{kind.KIND}-(\d+)\.safetensors", path.name)
            step = int(name[1]) if name else -1
            if step < 0:
                raise ValueError(f"{path} is not a {kind.KIND} snapshot")
            if step <= until_step:
                by_step[step] = kind.unpack(step, *_read(path))
        except NOT_OURS:
            num_skipped += 1
    return Snapshots([by_step[step] for step in sorted(by_step)], num_skipped)


def read_snapshot_history(run: RunDirectory, kind: type[AnySnapshot]) -> Snapshots[AnySnapshot]:
    """The same including the run's ancestors, up to each fork and to the run's current step."""
    # A run resumed from an earlier checkpoint still has snapshots of later steps.
    last_step = run_status(run).step
    parts = [read_snapshots(past.run, kind, min(past.until_step, last_step)) for past in lineage(run)]
    return Snapshots([one for part in parts for one in part.snapshots], sum(part.num_skipped for part in parts))


def _read(path: Path) -> tuple[Arrays, Metadata]:
    from safetensors import SafetensorError, safe_open

    if file_size(path) > MOST_BYTES:
        raise UnreadableError(path, f"larger than {MOST_BYTES:,} bytes")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is not a mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if metadata.get("schema") != SCHEMA or not _are_finite(arrays):
        raise ValueError(f"{path} has another schema than {SCHEMA}, or non-finite values")
    return arrays, metadata


def _are_finite(arrays: Arrays) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values())


def _strings(text: str) -> tuple[str, ...]:
    names = parse_json(text, "names")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ValueError("not a list of strings")
    return tuple(names)


MOST_PAIRS = 32
Halves = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class ProbeOutputs:
    """One model's unit-length embeddings of the probe pairs, rounded to float16, and its logit scale 1/τ."""

    image_PD: Halves
    text_PD: Halves
    scale: float


@dataclass(frozen=True, eq=False)
class Probe(Snapshot):
    """Embeddings of P held-out pairs and their captions; ``teacher`` is None without a teacher."""

    KIND = "probe"
    captions: tuple[str, ...]
    student: ProbeOutputs
    teacher: ProbeOutputs | None = None

    def pack(self) -> tuple[Arrays, Metadata]:
        models = {"student": self.student} | ({"teacher": self.teacher} if self.teacher else {})
        arrays = {f"{name}_image": one.image_PD for name, one in models.items()}
        arrays |= {f"{name}_text": one.text_PD for name, one in models.items()}
        scales = {name: one.scale for name, one in models.items()}
        return arrays, {"captions": json.dumps(self.captions), "scales": json.dumps(scales)}

    @classmethod
    def unpack(cls, step: int, arrays: Arrays, metadata: Metadata) -> "Probe":
        captions = _strings(metadata["captions"])
        models = {
            name: ProbeOutputs(arrays[f"{name}_image"], arrays[f"{name}_text"], float(scale))
            for name, scale in parse_json(metadata["scales"], "scales").items()
        }
        for one in models.values():
            if any(part_PD.shape[:-1] != (len(captions),) for part_PD in (one.image_PD, one.text_PD)):
                raise ValueError(f"the embeddings do not match their {len(captions)} captions")
        return cls(step, captions, models["student"], models.get("teacher"))


Place = Literal["image", "text", "image_tower", "text_tower"]
PLACES: tuple[Place, ...] = get_args(Place)
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gradients(Snapshot):
    """Inner products of the weighted losses' gradients, float64 [K, K] at four places; 0 for a loss without gradient.

    The places are the raw image and text embeddings, and the weights of the image and of the text tower. Norms, shares
    and cosines follow from inner products, and inner products of two places add up to those of their union.
    """

    KIND = "gradients"
    losses: tuple[str, ...]
    products: Mapping[Place, Floats]

    def pack(self) -> tuple[Arrays, Metadata]:
        return {place: self.products[place] for place in PLACES}, {"losses": json.dumps(self.losses)}

    @classmethod
    def unpack(cls, step: int, arrays: Arrays, metadata: Metadata) -> "Gradients":
        losses = _strings(metadata["losses"])
        products: dict[Place, Floats] = {place: arrays[place] for place in PLACES}
        if any(products_KK.shape != (len(losses), len(losses)) for products_KK in products.values()):
            raise ValueError(f"the gradients do not match their {len(losses)} losses")
        if any((np.diag(products_KK) < 0).any() for products_KK in products.values()):
            raise ValueError("a squared norm is negative")
        return cls(step, losses, products)

    def norm_K(self, *places: Place) -> Floats:
        """[K]: norm of each loss's weighted gradient over these places."""
        norm_K: Floats = np.sqrt(np.diag(self._sum_KK(places)))
        return norm_K

    @property
    def tower_norm_K(self) -> Floats:
        """[K]: norm of each loss's weighted gradient with respect to all tower weights."""
        return self.norm_K("image_tower", "text_tower")

    @property
    def share_K(self) -> Floats:
        """[K]: each loss's share of the sum of those norms; zeros if all norms are zero."""
        norm_K = self.tower_norm_K
        return norm_K / (norm_K.sum() or 1.0)

    @property
    def tower_cosine_KK(self) -> Floats:
        """[K, K]: cosine of each pair of losses' gradients with respect to all tower weights; 0 if one is zero."""
        return self._cosine_KK("image_tower", "text_tower")

    @property
    def embedding_cosine_KK(self) -> Floats:
        """[K, K]: the same with respect to the raw embeddings of both modalities."""
        return self._cosine_KK("image", "text")

    def _cosine_KK(self, *places: Place) -> Floats:
        sum_KK = self._sum_KK(places)
        square_K = np.diag(sum_KK)
        bound_KK = np.sqrt(np.outer(square_K, square_K))
        return np.divide(sum_KK, bound_KK, out=np.zeros_like(sum_KK), where=bound_KK > 0).clip(-1, 1)

    def _sum_KK(self, places: tuple[Place, ...]) -> Floats:
        sum_KK: Floats = np.sum([self.products[place] for place in places], axis=0)
        return sum_KK


GateValues = NDArray[np.float32]
Numbers = tuple[int, ...]


@dataclass(frozen=True)
class KeptIndices:
    """Indices of what is kept of a tower, ascending; heads and FFN channels by layer of the teacher."""

    embedding: Numbers
    heads: tuple[Numbers, ...]
    channels: tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class TowerMask:
    """How much of the original teacher's tower is kept: P(z ≠ 0) while masks are learned, 0 or 1 otherwise.

    Args:
        teacher: tower shape of the original teacher, before any stage.
        embedding_C: float32 in [0, 1], one value per embedding channel.
        heads: per layer of the teacher, one value per head; 0 in removed layers.
        channels: per layer of the teacher, one value per FFN channel.
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
    def kept(self) -> KeptIndices:
        """What is kept: in each group and layer, the expected number of those with the highest probabilities."""
        heads, channels = (tuple(map(_most_open, layers)) for layers in (self.heads, self.channels))
        return KeptIndices(_most_open(self.embedding_C, at_least=1), heads, channels)

    @property
    def student(self) -> TowerShape:
        """Shape of the remaining tower, with an entry for every layer of the teacher."""
        kept = self.kept
        heads, channels = (tuple(map(len, layers)) for layers in (kept.heads, kept.channels))
        return TowerShape(width=len(kept.embedding), head_width=self.teacher.head_width, heads=heads, channels=channels)


def _most_open(values: GateValues, at_least: int = 0) -> Numbers:
    """Indices without the round(Σ P(z = 0)) lowest; ties keep the first. Same rule as the masks at evaluation."""
    # Float64, because a float32 sum over thousands of channels can round to another count.
    num_open = max(at_least, len(values) - round(float((1 - values.astype(np.float64)).sum())))
    most_open_first = np.argsort(-values, kind="stable")
    return tuple(sorted(most_open_first[:num_open].tolist()))


@dataclass(frozen=True, eq=False)
class MaskSnapshot(Snapshot):
    """The masks of the towers that automatic inheritance changes.

    Args:
        stage: from 0.
        learning: whether masks are learned at this step; else they are fixed.
        sparsity: (expected) fraction of the teacher's attention and FFN weights removed, over these towers.
        target: the target sparsity at this step; equal to ``sparsity`` if masks are fixed.
    """

    KIND = "masks"
    stage: int
    learning: bool
    sparsity: float
    target: float
    towers: Mapping[Tower, TowerMask]

    def pack(self) -> tuple[Arrays, Metadata]:
        arrays: dict[str, GateValues] = {}
        for tower, mask in self.towers.items():
            arrays[f"{tower}/embedding"] = mask.embedding_C.astype(np.float32)
            arrays[f"{tower}/heads"] = np.concatenate(mask.heads).astype(np.float32)
            arrays[f"{tower}/channels"] = np.concatenate(mask.channels).astype(np.float32)
        teachers = {tower: mask.teacher.model_dump(mode="json") for tower, mask in self.towers.items()}
        scalars = {name: getattr(self, name) for name in ("stage", "learning", "sparsity", "target")}
        return arrays, {"towers": json.dumps(teachers), "masks": json.dumps(scalars, allow_nan=False)}

    @classmethod
    def unpack(cls, step: int, arrays: Arrays, metadata: Metadata) -> "MaskSnapshot":
        def by_layer(name: str, sizes: Numbers) -> tuple[GateValues, ...]:
            return tuple(np.split(arrays[name], np.cumsum(sizes)[:-1]))

        shapes = parse_json(metadata["towers"], "towers")
        teachers = {tower: TowerShape.parse(shapes[tower]) for tower in TOWERS if tower in shapes}
        masks = {
            tower: TowerMask(
                teacher,
                arrays[f"{tower}/embedding"],
                by_layer(f"{tower}/heads", teacher.heads),
                by_layer(f"{tower}/channels", teacher.channels),
            )
            for tower, teacher in teachers.items()
        }
        of = parse_json(metadata["masks"], "masks")
        return cls(step, int(of["stage"]), bool(of["learning"]), float(of["sparsity"]), float(of["target"]), masks)
