"""Teacher embeddings on disk: the rows of a run's training pairs, and those of held-out pairs.

Shape letters: N images · M captions · B rows of a batch · D the teacher's width.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from workbench.cache.arrays import DIGEST_BYTES, BlockReader
from workbench.cache.identity import digest_of
from workbench.data.evaluation_set import EvaluationSet
from workbench.embeddings import Embeddings, onto
from workbench.engine.teacher_cache.manifest import CACHES, HeldOutIdentity, Identity
from workbench.files import write_atomically
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import TeacherGroup, joined_embeddings

REBUILD = "rebuild it with: workbench teacher cache, and the run's --recipe and --set"


class TeacherCache:
    """The rows of a complete cache; each is verified at its first read."""

    def __init__(self, folder: Path) -> None:
        """Open a cache.

        Raises:
            ValueError: it is incomplete.
        """
        self.folder = folder
        try:
            self.manifest = CACHES.read(folder)
            self._reader = BlockReader(folder, self.manifest.blocks)
        except (OSError, ValueError) as error:
            raise ValueError(f"no complete teacher cache in '{folder}': {REBUILD}") from error
        self.damaged = self._reader.damaged
        self.width = self.manifest.width

    def embeddings(self, rows_B: Tensor, scale: Tensor) -> Embeddings:
        """The embeddings of some rows, on the device of ``scale``; the copy to a GPU is asynchronous.

        Raises:
            ValueError: a row is damaged, or the image of a pair was bad when the cache was built.
        """
        is_good_B, found = self.good_embeddings(rows_B, scale)
        if len(found) < len(rows_B):
            pair = int(rows_B[~is_good_B][0]) // self.manifest.identity.views
            raise ValueError(
                f"the teacher cache has nothing of pair {pair}, whose image was bad when it was built: {REBUILD}"
            )
        return found

    def good_embeddings(self, rows_B: Tensor, scale: Tensor) -> tuple[Tensor, Embeddings]:
        """Whether each row's image was good when the cache was built, [B] on the CPU; and the embeddings of those.

        Raises:
            ValueError: a row is damaged.
        """
        try:
            content = self._reader.read(rows_B.tolist())
        except ValueError as error:
            raise ValueError(f"teacher cache: {error}: {REBUILD}") from None
        raw_B2D = np.frombuffer(content, self.manifest.identity.dtype).reshape(len(rows_B), 2, self.manifest.width)
        is_good_B = ~np.isnan(raw_B2D[:, 0, 0])
        if not is_good_B.all():
            raw_B2D = raw_B2D[is_good_B]
        return torch.from_numpy(is_good_B), _on_device(torch.from_numpy(raw_B2D), scale)


class JoinedCaches:
    """The complete caches of several teachers, read as that of their group."""

    def __init__(self, caches: Sequence[TeacherCache], teacher: TeacherGroup) -> None:
        self._caches, self._teacher = caches, teacher
        self.width = teacher.width

    def good_embeddings(self, rows_B: Tensor, scale: Tensor) -> tuple[Tensor, Embeddings]:
        """As :meth:`TeacherCache.good_embeddings`, of the rows that are good in every cache."""
        found = [cache.good_embeddings(rows_B, scale) for cache in self._caches]
        is_good_B = torch.stack([is_good_B for is_good_B, _ in found]).all(0)
        parts = []
        for own_B, own in found:
            kept = onto(scale.device, is_good_B[own_B])  # of the rows that this cache has
            parts.append(replace(own, image_BD=own.image_BD[kept], text_BD=own.text_BD[kept]))
        return is_good_B, joined_embeddings(self._teacher, parts)


def _on_device(raw_B2D: Tensor, scale: Tensor) -> Embeddings:
    raw_B2D = onto(scale.device, raw_B2D)
    if raw_B2D.dtype != torch.float32:  # rounding to float16 has changed the norms
        raw_B2D = F.normalize(raw_B2D.float(), dim=-1)
    image_BD, text_BD = raw_B2D.unbind(1)
    return Embeddings(image_BD.contiguous(), text_BD.contiguous(), scale)


def find_cache(identity: Identity) -> TeacherCache | None:
    """The complete cache of this identity; None if it is missing or incomplete."""
    with suppress(ValueError):
        cache = TeacherCache(CACHES.folder(digest_of(identity)))
        return cache if cache.manifest.identity == identity else None
    return None


def recall_held_out(pairs: EvaluationSet, teacher: Teacher) -> tuple[Tensor, Tensor] | None:
    """Saved embeddings of images [N, D] and captions [M, D], on the teacher's device; None if missing or damaged."""
    if not _held_out_folder().is_dir():
        return None  # before the identity, which hashes the teacher's weights
    with suppress(OSError):
        content = _held_out_file(pairs, teacher).read_bytes()
        if sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]:
            kept = load(content[DIGEST_BYTES:])
            return kept["image_ND"].to(teacher.scale.device), kept["text_MD"].to(teacher.scale.device)
    return None


def keep_held_out(pairs: EvaluationSet, teacher: Teacher, image_ND: Tensor, text_MD: Tensor) -> None:
    """Save the embeddings; without room on the disk they are computed again next time."""
    content = save({"image_ND": torch.clone(image_ND.cpu()), "text_MD": torch.clone(text_MD.cpu())})
    with suppress(OSError):
        _held_out_folder().mkdir(parents=True, exist_ok=True)
        write_atomically(_held_out_file(pairs, teacher), sha256(content).digest() + content)


def _held_out_folder() -> Path:
    return CACHES.home / "held-out"


def _held_out_file(pairs: EvaluationSet, teacher: Teacher) -> Path:
    return _held_out_folder() / f"{digest_of(HeldOutIdentity.of(pairs, teacher))}.bin"
