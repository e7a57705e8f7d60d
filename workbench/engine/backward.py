"""From a batch to gradients, at once or in micro-batches; the gradient is the whole batch's either way."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Batch, Comparison, Embeddings
from workbench.engine.state import TrainState
from workbench.losses.objective import Objective, Values


def backward(
    state: TrainState,
    batch: Batch,
    teacher: Embeddings | None,
    objective: Objective,
    *,
    micro_batch_size: int = 0,
    precision: str = "fp32",
) -> Values:
    """Accumulate the gradient of the objective on ``batch`` into the state's parameters.

    A contrastive loss needs every pair of the batch, so micro-batches are exact only in three passes: embed all pairs
    without a graph, differentiate the objective with respect to those embeddings, then embed each micro-batch again and
    carry its embeddings' gradients to the weights. It costs one more forward and holds one micro-batch's activations.
    """
    if not 0 < micro_batch_size < len(batch):
        values = objective(compare(state, *_encode(state, batch, precision), teacher))
        values.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return values
    rows = list(_rows(len(batch), micro_batch_size))
    with torch.no_grad():
        chunks = [_encode(state, _take(batch, some), precision) for some in rows]
    image_BD, text_BD = (torch.cat(parts).requires_grad_() for parts in zip(*chunks, strict=True))
    values = objective(compare(state, image_BD, text_BD, teacher))
    values.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = (image_BD.grad, text_BD.grad)
    for some in rows:
        again = _encode(state, _take(batch, some), precision)
        pairs = [(e, g[some]) for e, g in zip(again, gradients, strict=True) if g is not None]
        torch.autograd.backward([e for e, _ in pairs], [g for _, g in pairs])
    return values


def compare(state: TrainState, image_BD: Tensor, text_BD: Tensor, teacher: Embeddings | None) -> Comparison:
    """Raw student embeddings beside the teacher's, normalised in float32."""
    scale = state.student.scale
    student = Embeddings(F.normalize(image_BD, dim=1), F.normalize(text_BD, dim=1), scale)
    projected = state.learnt.project(image_BD, text_BD, scale) or student
    return Comparison(student, teacher, projected, state.learnt.parts)


def _encode(state: TrainState, batch: Batch, precision: str) -> tuple[Tensor, Tensor]:
    device = batch.student_image_BCHW.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        image = state.student.encode_image(batch.student_image_BCHW)
        text = state.student.encode_text(batch.student_text_BL)
    return image, text


def _rows(num_pairs: int, size: int) -> Iterator[slice]:
    for start in range(0, num_pairs, size):
        yield slice(start, start + size)


def _take(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.keys[rows], batch.student_image_BCHW[rows], batch.student_text_BL[rows])
