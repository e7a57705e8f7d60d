"""The teacher's outputs for training, computed once where the same view of a pair comes again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from workbench.embeddings import Batch, Embeddings, FeatureKey
from workbench.models.teacher import Teacher

MEMORY_MB = 512  # more than this is computed anew every epoch


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says of one batch: its embeddings, and the inner features that were asked for."""

    embeddings: Embeddings
    features: dict[FeatureKey, Tensor] = field(default_factory=dict)


class Kept(Protocol):
    """What a teacher said of every view, such as a cache on disk."""

    def embeddings(self, rows_B: Tensor, scale: Tensor) -> Embeddings:
        """The embeddings of some rows, on the device of the teacher's scale; row n · K + k is view k of pair n."""


class TeacherForward:
    """What the teacher says of each batch.

    With ``data.views = K`` every pair has K views, and the teacher sees each once: its rows do not depend on the batch
    they came in, so what is remembered is what would have been computed.

    Args:
        num_views: K; 0 for views without number, of which none is remembered.
        num_pairs: training pairs.
        kept: has been told all views already; batches then need not hold the teacher's pictures.
    """

    def __init__(self, teacher: Teacher, num_views: int, num_pairs: int, kept: Kept | None = None) -> None:
        self._teacher = teacher
        self._num_views = num_views
        self._num_rows = num_views * num_pairs
        self._memory: _Memory | None = None
        self._kept = kept

    def __call__(self, batch: Batch, features: Sequence[FeatureKey] = ()) -> TeacherOutputs:
        """The teacher's lesson on the batch, without gradient. Inner features are never remembered."""
        rows_B = torch.tensor(batch.indices) * self._num_views + torch.tensor(batch.views)
        if self._kept:
            assert not features
            return TeacherOutputs(self._kept.embeddings(rows_B, self._teacher.scale))
        assert batch.teacher_image_BCHW is not None and batch.teacher_text_BL is not None
        if features:
            return TeacherOutputs(
                *self._teacher.embed_with_features(batch.teacher_image_BCHW, batch.teacher_text_BL, features)
            )
        if not remembers(self._num_rows, self._teacher.width):
            return TeacherOutputs(self._teacher.embed(batch.teacher_image_BCHW, batch.teacher_text_BL))
        self._memory = self._memory or _Memory(self._teacher, self._num_rows)
        new = self._memory.is_new(rows_B).nonzero()[:, 0]  # numbers, not a mask: a GPU would be waited for to count it
        if len(new):
            there = new.to(batch.teacher_image_BCHW.device, non_blocking=True)
            fresh = self._teacher.embed(batch.teacher_image_BCHW[there], batch.teacher_text_BL[there])
            self._memory.remember(rows_B[new], fresh)
        return TeacherOutputs(self._memory.embeddings(rows_B, self._teacher.scale))


def remembers(num_rows: int, width: int) -> bool:
    """Whether so many views fit in memory."""
    return 0 < num_rows * 2 * width * 4 / 2**20 <= MEMORY_MB


class _Memory:
    """Views of pairs, as far as they have been seen."""

    def __init__(self, teacher: Teacher, num_rows: int) -> None:
        device = teacher.scale.device
        self._seen = torch.zeros(num_rows, dtype=torch.bool)
        self._image_ND = torch.empty(num_rows, teacher.width, device=device)
        self._text_ND = torch.empty(num_rows, teacher.width, device=device)

    def is_new(self, rows_B: Tensor) -> Tensor:
        return ~self._seen[rows_B]

    def remember(self, rows_B: Tensor, fresh: Embeddings) -> None:
        self._seen[rows_B] = True
        there = rows_B.to(fresh.image_BD.device, non_blocking=True)
        self._image_ND[there] = fresh.image_BD
        self._text_ND[there] = fresh.text_BD

    def embeddings(self, rows_B: Tensor, scale: Tensor) -> Embeddings:
        rows_B = rows_B.to(scale.device, non_blocking=True)
        return Embeddings(self._image_ND[rows_B], self._text_ND[rows_B], scale)
