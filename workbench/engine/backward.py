"""From a batch to gradients, at once or in micro-batches; the gradient is the whole batch's either way."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.embeddings import Batch, Embeddings, FeatureKey
from workbench.engine.lessons import Lesson
from workbench.engine.state import TrainState
from workbench.losses.comparison import Comparison, Features
from workbench.losses.objective import Demands, Objective, Values


@dataclass(frozen=True)
class Encoded:
    """What a student made of a batch: raw embeddings, not normalised, and the inner features that losses compare."""

    image_BD: Tensor
    text_BD: Tensor
    masked_BD: Tensor | None  # of the masked pictures, where image_BD is of the whole ones
    features: dict[FeatureKey, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name."""
        named = {"image": self.image_BD, "text": self.text_BD, "masked": self.masked_BD}
        named |= {f"{key.form} of block {key.block}": tensor for key, tensor in self.features.items()}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @staticmethod
    def leaves(chunks: list["Encoded"]) -> "Encoded":
        """Chunks of a batch as one, without their history: to be differentiated with respect to."""

        def joined(tensors: list[Tensor]) -> Tensor:
            return torch.cat(tensors).detach().requires_grad_()

        masked = [chunk.masked_BD for chunk in chunks if chunk.masked_BD is not None]
        return Encoded(
            joined([chunk.image_BD for chunk in chunks]),
            joined([chunk.text_BD for chunk in chunks]),
            joined(masked) if masked else None,
            {key: joined([chunk.features[key] for chunk in chunks]) for key in chunks[0].features},
        )


def backward(
    state: TrainState,
    batch: Batch,
    lesson: Lesson | None,
    objective: Objective,
    step: int,
    *,
    micro_batch_size: int = 0,
    precision: str = "fp32",
) -> Values:
    """Accumulate the gradient of the objective on ``batch`` at ``step`` into the state's parameters.

    A contrastive loss needs every pair of the batch, so micro-batches are exact only in three passes: embed all pairs
    without a graph, differentiate the objective with respect to those embeddings, then embed each micro-batch again and
    carry its embeddings' gradients to the weights. It costs one more forward and holds one micro-batch's activations.
    """
    demands = objective.demands(step)
    if not 0 < micro_batch_size < len(batch):
        comparison = compare(state, encode(state, batch, demands, precision), lesson, objective, step)
        values = objective(comparison, step)
        values.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return values
    rows = list(micro_batches(len(batch), micro_batch_size))
    with torch.no_grad():
        chunks = [encode(state, take_rows(batch, some), demands, precision) for some in rows]
    whole = Encoded.leaves(chunks)
    values = objective(compare(state, whole, lesson, objective, step), step)
    values.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = {name: tensor.grad for name, tensor in whole.tensors().items()}
    for some in rows:
        again = encode(state, take_rows(batch, some), demands, precision).tensors()
        pairs = [
            (again[name], gradient[some])
            for name, gradient in gradients.items()
            if gradient is not None and again[name].requires_grad  # not so of a frozen tower
        ]
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
    return values


def encode(state: TrainState, batch: Batch, demands: Demands, precision: str) -> Encoded:
    """The student's raw outputs for a batch, with what the losses demand beside the embeddings."""
    student, keys = state.student, demands.student_features
    images_BCHW, kept_BK = batch.student_image_BCHW, batch.kept_BK
    apart = demands.masking is not None and not demands.masking.feeds_all
    with torch.autocast(images_BCHW.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        image_BD, features = student.encode_image_with_features(images_BCHW, keys, None if apart else kept_BK)
        masked_BD = student.encode_image(images_BCHW, kept_BK) if apart else None
        text_BD = student.encode_text(batch.student_text_BL)
    return Encoded(image_BD, text_BD, masked_BD, features)


def compare(state: TrainState, encoded: Encoded, lesson: Lesson | None, objective: Objective, step: int) -> Comparison:
    """Raw student outputs beside the teacher's, embeddings normalised in float32."""
    scale, text_BD = state.student.scale, encoded.text_BD

    def at_teacher_width(image_BD: Tensor) -> Embeddings | None:
        return state.learnt.project(image_BD, text_BD, scale)

    student = Embeddings.from_raw(encoded.image_BD, text_BD, scale)
    masked = None
    if encoded.masked_BD is not None:
        masked = at_teacher_width(encoded.masked_BD) or Embeddings.from_raw(encoded.masked_BD, text_BD, scale)
    return Comparison(
        student,
        lesson.embeddings if lesson else None,
        at_teacher_width(encoded.image_BD) or student,
        state.learnt.parts,
        masked,
        _matched(encoded, lesson, objective.demands(step)),
        objective.chunk_size,
    )


def _matched(encoded: Encoded, lesson: Lesson | None, demands: Demands) -> dict[str, Features]:
    if not demands.features:
        return {}
    assert lesson is not None
    return {
        loss: Features(
            tuple(encoded.features[key] for key in request.student),
            tuple(lesson.features[key] for key in request.teacher),
        )
        for loss, request in demands.features.items()
    }


def micro_batches(num_pairs: int, size: int) -> Iterator[slice]:
    """The rows of each micro-batch in turn."""
    for start in range(0, num_pairs, size):
        yield slice(start, start + size)


def take_rows(batch: Batch, rows: slice) -> Batch:
    """Some pairs of a batch, as the student sees them."""
    kept_BK = None if batch.kept_BK is None else batch.kept_BK[rows]
    return Batch(batch.keys[rows], batch.student_image_BCHW[rows], batch.student_text_BL[rows], kept_BK=kept_BK)
