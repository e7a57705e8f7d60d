"""Active curation: every batch is chosen from a larger one by the losses of student and teacher (ACID).

Shape letters: S pairs of the larger batch, A pairs chosen so far, C pairs of a chunk, D embedding width.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.run import RunConfig
from workbench.data.order import largest_remainder
from workbench.embeddings import Batch, Embeddings, onto
from workbench.engine.state import TrainState
from workbench.engine.step import encode, micro_batches, take_rows
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.losses.objective import LossInputs
from workbench.randomness import derive_seed

ENCODED_AT_ONCE = 256  # pairs, where micro-batches do not say otherwise


class JointLoss:
    """CLIP's loss of a set of pairs that grows, with its softmaxes over the set."""

    def __init__(self, pairs: Embeddings) -> None:
        self._pairs = pairs
        self._own_S = pairs.scale * (pairs.image_BD * pairs.text_BD).sum(1)
        # Log-sum-exp over the captions, and over the images, of the set.
        self._by_image_S = torch.full_like(self._own_S, -torch.inf)
        self._by_text_S = torch.full_like(self._own_S, -torch.inf)
        self._chosen: list[Tensor] = []

    def add(self, rows_C: Tensor) -> None:
        """Add some pairs to the set."""
        self._chosen.append(rows_C)
        for log_sums_S, logits_SC in zip((self._by_image_S, self._by_text_S), self._logits(rows_C), strict=True):
            torch.logaddexp(log_sums_S, logits_SC.logsumexp(1), out=log_sums_S)

    def gains(self) -> Tensor:
        """How much the loss, summed over the set, grows by each pair that joins it, [S]; of no meaning for its own."""
        own_S = self._own_S
        gains_S = sum(torch.logaddexp(sums_S, own_S) - own_S for sums_S in (self._by_image_S, self._by_text_S))
        assert isinstance(gains_S, Tensor)
        if self._chosen:
            # The new pair is one more candidate for every pair of the set: its caption for their images, and reversed.
            rows_A = torch.cat(self._chosen)
            images_SA, texts_SA = self._logits(rows_A)
            gains_S = gains_S + F.softplus(images_SA - self._by_text_S[rows_A]).sum(1)
            gains_S = gains_S + F.softplus(texts_SA - self._by_image_S[rows_A]).sum(1)
        return gains_S / 2

    def _logits(self, rows_A: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of all images with some captions, and of all captions with some images, [S, A] each."""
        image_SD, text_SD, scale = self._pairs.image_BD, self._pairs.text_BD, self._pairs.scale
        return scale * image_SD @ text_SD[rows_A].T, scale * text_SD @ image_SD[rows_A].T


def choose_rows(
    student: Embeddings | None, teacher: Embeddings, batch_size: int, num_chunks: int, generator: torch.Generator
) -> Tensor:
    """The rows of the larger batch to train on, int64 [B], ascending.

    Rows are drawn chunk by chunk without replacement, with probability proportional to exp(score). The score of a pair
    is how much the summed CLIP loss of the rows drawn so far grows by it: the student's minus the teacher's
    (learnability), or the teacher's alone, negated, without ``student``. The first chunk is uniform.
    """
    losses = [(1.0, JointLoss(student))] if student else []
    losses.append((-1.0, JointLoss(teacher)))
    device, num_pairs = teacher.scale.device, len(teacher)
    taken_S = torch.zeros(num_pairs, device=device)
    for size in largest_remainder(batch_size, [1] * num_chunks):
        scores_S = torch.stack([sign * loss.gains() for sign, loss in losses]).sum(0)
        # The Gumbel-max trick: the largest of score + noise are a sample without replacement from their softmax.
        uniform_S = torch.rand(num_pairs, generator=generator, dtype=torch.float64)
        noise_S = onto(device, (-(-uniform_S.log()).log()).to(scores_S.dtype))
        rows_C = (scores_S + noise_S + taken_S).topk(size).indices
        taken_S[rows_C] = -torch.inf
        for _, loss in losses:
            loss.add(rows_C)
    return taken_S.argsort(stable=True)[:batch_size].sort().values  # −∞ comes first


@torch.no_grad()
def curate(state: TrainState, config: RunConfig, batch: Batch, teacher_outputs: TeacherOutputs, step: int) -> list[int]:
    """The rows of a larger batch that a student trains on at ``step`` (from 0).

    A function of the batch, the weights, the run's seed and the step, so that a resumed run chooses the same rows. It
    costs a forward of the student on all pairs of the larger batch for learnability, and none for "easy".
    """
    curation = config.curation
    student = _embedded(state, config, batch) if curation.method == "learnability" else None
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "curation", step))
    rows = choose_rows(student, teacher_outputs.embeddings, config.train.batch_size, curation.num_chunks, generator)
    return rows.tolist()


def _embedded(state: TrainState, config: RunConfig, batch: Batch) -> Embeddings:
    """The student's embeddings of unmasked images and captions, in eval mode: batch-norm statistics do not change."""
    train, student = config.train, state.student
    inputs = LossInputs(teacher=False, masking=None, features={})
    size = train.micro_batch_size if isinstance(train.micro_batch_size, int) else 0
    slices = micro_batches(len(batch), size or ENCODED_AT_ONCE)
    student.eval()
    try:
        chunks = [encode(state, take_rows(batch, rows), inputs, train.precision) for rows in slices]
    finally:
        student.train()
    image_SD, text_SD = torch.cat([one.image_BD for one in chunks]), torch.cat([one.text_BD for one in chunks])
    return Embeddings.from_raw(image_SD, text_SD, student.scale)


def picked(batch: Batch, rows: list[int]) -> Batch:
    """Some pairs of a batch, in this order, without the teachers' inputs."""
    there = onto(batch.student_image_BCHW.device, torch.tensor(rows))
    return replace(
        batch,
        keys=tuple(batch.keys[row] for row in rows),
        student_image_BCHW=batch.student_image_BCHW[there],
        student_text_BL=batch.student_text_BL[there],
        teachers=(),
        indices=tuple(batch.indices[row] for row in rows),
        views=tuple(batch.views[row] for row in rows),
        masks={key: kept_BK[there] for key, kept_BK in batch.masks.items()},
    )
