"""Teacher outputs for training batches, computed once per view of a pair where that fits in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench.embeddings import Batch, Embeddings, FeatureKey, ModelInputs, onto
from workbench.engine.distributed import Ranks
from workbench.engine.teacher_cache.store import TeacherCache
from workbench.losses.candidates import Candidates
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers, joined_embeddings

MEMORY_MB = 512  # embeddings that take more are computed again in every epoch


@dataclass(frozen=True)
class TeacherOutputs:
    """Teacher outputs for one batch: embeddings, and what else losses need of it.

    Attributes:
        features: intermediate features.
        candidates: all training pairs, for losses that compare a batch with them.
    """

    embeddings: Embeddings
    features: dict[FeatureKey, Tensor] = field(default_factory=dict)
    candidates: Candidates | None = None

    def of_rows(self, rows: Sequence[int]) -> "TeacherOutputs":
        """The outputs for some pairs of the batch, in this order."""
        own = self.embeddings
        there = onto(own.image_BD.device, torch.tensor(rows))
        return TeacherOutputs(
            replace(own, image_BD=own.image_BD[there], text_BD=own.text_BD[there]),
            {key: feature[there] for key, feature in self.features.items()},
            self.candidates.of_rows(there, len(own)) if self.candidates else None,
        )

    def gathered(self, ranks: Ranks) -> "TeacherOutputs":
        """The outputs for the pairs of all ranks."""
        if ranks.size == 1:
            return self
        own = self.embeddings
        whole = replace(own, image_BD=ranks.gather(own.image_BD), text_BD=ranks.gather(own.text_BD))
        return TeacherOutputs(whole, {key: ranks.gather(feature) for key, feature in self.features.items()})


class TeacherForward:
    """The teacher's forward on a batch, without gradient.

    With ``data.views = K`` every pair has K fixed views, and each is embedded once. The rows of the teacher's forward
    do not depend on the rest of the batch, so the stored embeddings equal those of a new forward.

    Args:
        num_views: K; 0 for a new view in every epoch, where nothing is stored.
        num_pairs: training pairs.
        caches: of each of the teacher's members, with the embeddings of all views; None or none at all for those that
            run live. Batches have inputs for the latter only.
    """

    def __init__(
        self, teacher: Teachers, num_views: int, num_pairs: int, caches: Sequence[TeacherCache | None] = ()
    ) -> None:
        self._teacher = teacher
        self._num_views = num_views
        self._num_rows = num_views * num_pairs
        self._memories: dict[int, _Memory] = {}  # by member
        self._caches = caches or [None] * len(teacher.members)

    def __call__(self, batch: Batch, features: Sequence[FeatureKey] = ()) -> TeacherOutputs:
        """Embeddings of the batch, and intermediate features, which are never stored."""
        rows_B = torch.tensor(batch.indices) * self._num_views + torch.tensor(batch.views)
        if features:
            (member,), (inputs,) = self._teacher.members, batch.teachers  # features are those of one teacher
            return TeacherOutputs(*member.embed_with_features(*inputs, features))
        live = iter(batch.teachers)
        found = [
            cache.embeddings(rows_B, member.scale) if cache else self._embed(number, next(live), rows_B)
            for number, (member, cache) in enumerate(zip(self._teacher.members, self._caches, strict=True))
        ]
        return TeacherOutputs(joined_embeddings(self._teacher, found))

    def _embed(self, number: int, inputs: ModelInputs, rows_B: Tensor) -> Embeddings:
        """Embeddings by one of the teacher's members, of rows that are not in memory yet."""
        member = self._teacher.members[number]
        if not fits_in_memory(self._num_rows, self._teacher.width):
            return member.embed(*inputs)
        if number not in self._memories:
            self._memories[number] = _Memory(member, self._num_rows)
        memory = self._memories[number]
        new = memory.is_new(rows_B).nonzero()[:, 0]  # on the CPU: counting on a GPU would wait for it
        if len(new):
            there = onto(inputs.image_BCHW.device, new)
            memory.store(rows_B[new], member.embed(inputs.image_BCHW[there], inputs.text_BL[there]))
        return memory.embeddings(rows_B, member.scale)


def fits_in_memory(num_rows: int, width: int) -> bool:
    """Whether the embeddings of ``num_rows`` views (image and text, float32) fit in ``MEMORY_MB``."""
    return 0 < num_rows * 2 * width * 4 / 2**20 <= MEMORY_MB


class _Memory:
    """The embeddings of the views seen so far; rows are views."""

    def __init__(self, teacher: Teacher, num_rows: int) -> None:
        device = teacher.scale.device
        self._seen = torch.zeros(num_rows, dtype=torch.bool)  # on the CPU, where ``is_new`` waits for no GPU
        self._image_ND = torch.empty(num_rows, teacher.width, device=device)
        self._text_ND = torch.empty(num_rows, teacher.width, device=device)

    def is_new(self, rows_B: Tensor) -> Tensor:
        return ~self._seen[rows_B]

    def store(self, rows_B: Tensor, fresh: Embeddings) -> None:
        self._seen[rows_B] = True
        there = onto(fresh.image_BD.device, rows_B)
        self._image_ND[there] = fresh.image_BD
        self._text_ND[there] = fresh.text_BD

    def embeddings(self, rows_B: Tensor, scale: Tensor) -> Embeddings:
        rows_B = onto(scale.device, rows_B)
        return Embeddings(self._image_ND[rows_B], self._text_ND[rows_B], scale)
