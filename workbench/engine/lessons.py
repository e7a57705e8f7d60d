"""The teacher's outputs for training, computed once where the same view of a pair comes again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.embeddings import Batch, Embeddings, FeatureKey
from workbench.models.teacher import Teacher

MEMORY_MB = 512  # more than this is computed anew every epoch


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of one batch: its embeddings, and the inner features that were asked for."""

    embeddings: Embeddings
    features: dict[FeatureKey, Tensor] = field(default_factory=dict)


class Lessons:
    """What the teacher says of each batch.

    With ``data.views = K`` every pair has K views, and the teacher sees each once: its rows do not depend on the batch
    they came in, so what is remembered is what would have been computed.

    Args:
        num_views: K; 0 for views without number, of which none is remembered.
        num_pairs: training pairs.
    """

    def __init__(self, teacher: Teacher, num_views: int, num_pairs: int) -> None:
        self._teacher = teacher
        size_mb = num_views * num_pairs * 2 * teacher.width * 4 / 2**20
        self._remembers = 0 < size_mb <= MEMORY_MB
        self._rows: dict[tuple[str, int], int] = {}  # by key and view
        self._capacity = num_views * num_pairs
        self._memory: _Memory | None = None

    def teach(self, batch: Batch, features: Sequence[FeatureKey] = ()) -> Lesson:
        """The teacher's lesson on the batch, without gradient. Inner features are never remembered."""
        assert batch.teacher_image_BCHW is not None and batch.teacher_text_BL is not None
        if features:
            return Lesson(*self._teacher.embed_with_features(batch.teacher_image_BCHW, batch.teacher_text_BL, features))
        if not self._remembers:
            return Lesson(self._teacher.embed(batch.teacher_image_BCHW, batch.teacher_text_BL))
        device = batch.teacher_image_BCHW.device
        if self._memory is None:
            self._memory = _Memory(self._capacity, self._teacher.width, device)
        memory = self._memory
        shown = zip(batch.keys, batch.views, strict=True)
        rows_B = torch.tensor([self._rows.setdefault(one, len(self._rows)) for one in shown])
        new_B = ~memory.seen_N[rows_B]
        if new_B.any():
            here = new_B.to(device)
            fresh = self._teacher.embed(batch.teacher_image_BCHW[here], batch.teacher_text_BL[here])
            memory.remember(rows_B[new_B], fresh)
        rows_B = rows_B.to(device)
        return Lesson(Embeddings(memory.image_ND[rows_B], memory.text_ND[rows_B], self._teacher.scale))


class _Memory:
    """N views of pairs, as far as they have been seen."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.seen_N = torch.zeros(capacity, dtype=torch.bool)
        self.image_ND = torch.empty(capacity, width, device=device)
        self.text_ND = torch.empty(capacity, width, device=device)

    def remember(self, rows_B: Tensor, fresh: Embeddings) -> None:
        self.seen_N[rows_B] = True
        self.image_ND[rows_B.to(fresh.image_BD.device)] = fresh.image_BD
        self.text_ND[rows_B.to(fresh.text_BD.device)] = fresh.text_BD
