"""The teacher's outputs for training, computed once where the same view of a pair comes again."""

import torch
from torch import Tensor

from workbench.embeddings import Batch, Embeddings
from workbench.models.teacher import Teacher

MEMORY_MB = 512  # more than this is computed anew every epoch


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
        self._rows: dict[str, int] = {}
        self._num_pairs = num_pairs
        self._views: dict[int, _View] = {}

    def embed(self, batch: Batch) -> Embeddings:
        """The teacher's unit-length embeddings of the batch, without gradient."""
        assert batch.teacher_image_BCHW is not None and batch.teacher_text_BL is not None
        if not self._remembers:
            return self._teacher.embed(batch.teacher_image_BCHW, batch.teacher_text_BL)
        device = batch.teacher_image_BCHW.device
        if batch.view not in self._views:
            self._views[batch.view] = _View(self._num_pairs, self._teacher.width, device)
        view = self._views[batch.view]
        rows_B = torch.tensor([self._rows.setdefault(key, len(self._rows)) for key in batch.keys])
        new_B = ~view.seen_N[rows_B]
        if new_B.any():
            here = new_B.to(device)
            fresh = self._teacher.embed(batch.teacher_image_BCHW[here], batch.teacher_text_BL[here])
            view.remember(rows_B[new_B], fresh)
        rows_B = rows_B.to(device)
        return Embeddings(view.image_ND[rows_B], view.text_ND[rows_B], self._teacher.scale)


class _View:
    """One view of all pairs, as far as it has been seen."""

    def __init__(self, num_pairs: int, width: int, device: torch.device) -> None:
        self.seen_N = torch.zeros(num_pairs, dtype=torch.bool)
        self.image_ND = torch.empty(num_pairs, width, device=device)
        self.text_ND = torch.empty(num_pairs, width, device=device)

    def remember(self, rows_B: Tensor, fresh: Embeddings) -> None:
        self.seen_N[rows_B] = True
        self.image_ND[rows_B.to(fresh.image_BD.device)] = fresh.image_BD
        self.text_ND[rows_B.to(fresh.text_BD.device)] = fresh.text_BD
