"""The key of a cache: everything that decides the embeddings, except the machine. Any difference is another cache."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from workbench.config.run import RunConfig
from workbench.data.cached.store import decoder
from workbench.data.dataset import Dataset

if TYPE_CHECKING:
    from workbench.models.teacher import Teacher

FORMAT = 1  # increase it when the same identity gives other embeddings


class TeacherIdentity(BaseModel):
    """Everything about a teacher that decides the embedding of an image or a caption."""

    model_config = ConfigDict(frozen=True)

    format: int
    weights: str  # SHA-256 of the teacher's
    architecture: str  # SHA-256 of its config and image normalization
    image_size: int
    tokenizer: str
    precision: str
    chunk_size: int
    decoder: str  # of images

    @classmethod
    def of(cls, teacher: "Teacher") -> "TeacherIdentity":
        described = json.dumps([teacher.architecture, teacher.normalisation], sort_keys=True)
        return cls(
            format=FORMAT,
            weights=teacher.fingerprint(),
            architecture=sha256(described.encode()).hexdigest(),
            image_size=teacher.form.image_size,
            tokenizer=teacher.form.tokenizer_id,
            precision=teacher.precision,
            chunk_size=teacher.chunk_size,
            decoder=decoder(),
        )


class Identity(BaseModel):
    """The key of a cache: pairs, views, teacher and dtype."""

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
    def of(cls, config: RunConfig, dataset: Dataset, teacher: "Teacher") -> "Identity":
        return cls(
            data=dataset.fingerprint,
            files=dataset.stamp(),
            num_pairs=len(dataset),
            views=config.data.views,
            data_seed=config.data.seed,
            crop_scale=config.data.crop_scale,
            teacher=TeacherIdentity.of(teacher),
            dtype=config.teacher.cache_dtype,
        )

    @property
    def digest(self) -> str:
        """The name of the cache's folder."""
        return digest_of(self)

    def differences(self, other: "Identity") -> list[str]:
        """Fields in which ``other`` differs, each as text: its value, then this one's."""
        return [
            f"{name} ({_short(there)}, here {_short(here)})"
            for (name, here), (_, there) in zip(_flat(self), _flat(other), strict=True)
            if here != there
        ]


def digest_of(identity: BaseModel) -> str:
    """32 hexadecimal digits of the SHA-256."""
    return sha256(identity.model_dump_json().encode()).hexdigest()[:32]


def _flat(identity: Identity) -> Iterator[tuple[str, Any]]:
    for name, value in identity.model_dump().items():
        yield from ((f"teacher {key}", one) for key, one in value.items()) if name == "teacher" else [(name, value)]


def _short(value: Any) -> str:
    """A value in a message; hashes are cut."""
    text = str(value)
    return text if len(text) <= 12 else f"{text[:8]}..."
