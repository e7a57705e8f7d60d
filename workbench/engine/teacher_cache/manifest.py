"""What a teacher cache is: the identity of its embeddings, and its manifest. Needs no torch.

``rows.bin`` has a row for every view of every pair, view k of pair n at n · K + k: the unit-length embeddings of image
and caption, [2, D] of float32 or float16; NaN for a bad image. ``checksums.bin`` and ``digests.bin`` tell whether rows
and blocks of pairs are intact (see :mod:`workbench.cache.arrays`). ``cache.json`` is the manifest.

Shape letters: K views · D the teacher's width.
"""

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from workbench.cache.arrays import Blocks, read_digests
from workbench.cache.entries import EntryKind
from workbench.cache.identity import decoder, differences
from workbench.config.run import RunConfig
from workbench.data.dataset import Dataset
from workbench.embeddings import CLIPS_RESIZING
from workbench.files import remove

if TYPE_CHECKING:
    from workbench.data.evaluation_set import EvaluationSet
    from workbench.models.teacher import Teacher

MANIFEST = "cache.json"
FORMAT = 1  # increase it when the same identity gives other embeddings
MAX_DIFFERENCES = 3  # with more, the nearest cache is of no interest


class TeacherIdentity(BaseModel):
    """Everything about a teacher that decides the embedding of an image or a caption, except the machine."""

    model_config = ConfigDict(frozen=True)

    format: int
    weights: str  # SHA-256 of the teacher's
    architecture: str  # SHA-256 of its config, image normalization and resizing
    image_size: int
    tokenizer: str
    precision: str
    chunk_size: int
    decoder: str  # of images

    @classmethod
    def of(cls, teacher: "Teacher") -> Self:
        parts: list[Any] = [teacher.architecture, teacher.normalization]
        if (resizing := teacher.input_spec.resizing) != CLIPS_RESIZING:  # the default was not part of older identities
            parts.append(resizing)
        described = json.dumps(parts, sort_keys=True)
        return cls(
            format=FORMAT,
            weights=teacher.fingerprint(),
            architecture=sha256(described.encode()).hexdigest(),
            image_size=teacher.input_spec.image_size,
            tokenizer=teacher.input_spec.tokenizer_id,
            precision=teacher.precision,
            chunk_size=teacher.chunk_size,
            decoder=decoder(),
        )


class Identity(BaseModel):
    """The key of a cache: pairs, views, teacher and dtype. Any difference is another cache."""

    model_config = ConfigDict(frozen=True)

    data: str  # the data set's fingerprint
    files: str  # the stamp of its files
    num_pairs: int
    views: int
    data_seed: int
    crop_scale: tuple[float, float]
    teacher: TeacherIdentity
    dtype: str

    @classmethod
    def of(cls, config: RunConfig, dataset: Dataset, teacher: "Teacher") -> Self:
        return cls(
            data=_drawn_from(dataset, config.data.synthetic_captions),
            files=dataset.stamp(),
            num_pairs=len(dataset),
            views=config.data.views,
            data_seed=config.data.seed,
            crop_scale=config.data.crop_scale,
            teacher=TeacherIdentity.of(teacher),
            dtype=config.teacher.cache_dtype,
        )


def _drawn_from(dataset: Dataset, synthetic_captions: float) -> str:
    """The fingerprint of the data, with the weight by which captions are drawn where that is not the default."""
    if not synthetic_captions:
        return dataset.fingerprint
    return sha256(f"{dataset.fingerprint} {synthetic_captions!r}".encode()).hexdigest()


class HeldOutIdentity(BaseModel):
    """The key of held-out embeddings: images, captions and teacher."""

    model_config = ConfigDict(frozen=True)

    data: str
    captions: str  # SHA-256 of all, in order; those of bad images are left out
    num_images: int
    teacher: TeacherIdentity

    @classmethod
    def of(cls, pairs: "EvaluationSet", teacher: "Teacher") -> Self:
        captions = sha256(json.dumps(pairs.captions).encode()).hexdigest()
        identity = TeacherIdentity.of(teacher)
        return cls(data=pairs.fingerprint, captions=captions, num_images=pairs.num_images, teacher=identity)


class Manifest(BaseModel):
    """The content of a cache, and the machine on which it was started."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    width: int
    pairs_per_block: int
    data: str  # SPECs, as in the run's config
    teacher: str
    machine: dict[str, Any]

    @property
    def blocks(self) -> Blocks:
        pair_bytes = self.identity.views * 2 * self.width * np.dtype(self.identity.dtype).itemsize
        return Blocks(self.identity.num_pairs, pair_bytes, self.pairs_per_block, self.identity.views)

    @property
    def size_bytes(self) -> int:
        return self.blocks.size_bytes


CACHES = EntryKind("teacher", "", MANIFEST, Manifest, lambda it: (it.data, it.teacher))


def num_built(folder: Path, manifest: Manifest) -> int:
    """Number of computed blocks; 0 if the files are missing."""
    with suppress(OSError):
        return sum(map(bool, read_digests(folder, manifest.blocks)))
    return 0


def why_missing(identity: Identity) -> str:
    """Why there is no complete cache of this identity: none, an incomplete one, or how the nearest differs."""
    there = CACHES.entries()
    for one in there:
        if one.manifest.identity == identity:
            blocks = len(one.manifest.blocks)
            return f"this run's is built up to block {num_built(one.folder, one.manifest)} of {blocks}"
    nearest = min((differences(identity, one.manifest.identity) for one in there), key=len, default=[])
    if not 0 < len(nearest) <= MAX_DIFFERENCES:
        return "there is none yet"
    return f"the nearest one differs in {', '.join(nearest)}"


def remove_all() -> None:
    """Remove every cache, complete or not, and the embeddings of held-out pairs."""
    for one in CACHES.entries():
        CACHES.remove(one.folder)
    remove(CACHES.home)
