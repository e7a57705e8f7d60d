"""Teacher embeddings of held-out pairs, on disk: every run compares its student with the same ones."""

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load, save
from torch import Tensor

from workbench.data.evaluation_set import EvaluationSet
from workbench.engine.teacher_cache.identity import TeacherIdentity, digest_of
from workbench.engine.teacher_cache.store import home
from workbench.files import write_atomically
from workbench.models.teacher import Teacher

DIGEST_BYTES = sha256().digest_size


class HeldOutIdentity(BaseModel):
    """The key of an entry: images, captions and teacher."""

    model_config = ConfigDict(frozen=True)

    data: str
    captions: str  # SHA-256 of all, in order; those of bad images are left out
    num_images: int
    teacher: TeacherIdentity

    @classmethod
    def of(cls, pairs: EvaluationSet, teacher: Teacher) -> "HeldOutIdentity":
        captions = sha256(json.dumps(pairs.captions).encode()).hexdigest()
        identity = TeacherIdentity.of(teacher)
        return cls(data=pairs.fingerprint, captions=captions, num_images=pairs.num_images, teacher=identity)


def recall_held_out(pairs: EvaluationSet, teacher: Teacher) -> tuple[Tensor, Tensor] | None:
    """Saved embeddings of images [N, D] and captions [M, D], on the teacher's device; None if missing or damaged."""
    if not _folder().is_dir():
        return None
    with suppress(OSError):
        content = _place(pairs, teacher).read_bytes()
        if sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]:
            kept = load(content[DIGEST_BYTES:])
            return kept["image_ND"].to(teacher.scale.device), kept["text_MD"].to(teacher.scale.device)
    return None


def keep_held_out(pairs: EvaluationSet, teacher: Teacher, image_ND: Tensor, text_MD: Tensor) -> None:
    """Save the embeddings; without room on the disk they are computed again next time."""
    content = save({"image_ND": torch.clone(image_ND.cpu()), "text_MD": torch.clone(text_MD.cpu())})
    with suppress(OSError):
        _folder().mkdir(parents=True, exist_ok=True)
        write_atomically(_place(pairs, teacher), sha256(content).digest() + content)


def _folder() -> Path:
    return home() / "held-out"


def _place(pairs: EvaluationSet, teacher: Teacher) -> Path:
    return _folder() / f"{digest_of(HeldOutIdentity.of(pairs, teacher))}.bin"
