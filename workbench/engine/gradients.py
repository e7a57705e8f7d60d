"""Per-loss gradient norms and pairwise inner products, from which cosine similarities follow.

Shape letters: K losses, P weights of one parameter."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.embeddings import Batch
from workbench.engine.state import TrainState
from workbench.engine.step import Encoded, compare, encode, micro_batches, take_rows
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Event, Warned
from workbench.losses.objective import Objective
from workbench.losses.registry import compute_loss
from workbench.models.clip import Clip
from workbench.runs.snapshots import Gradients, Place, write_snapshot

if TYPE_CHECKING:
    from workbench.engine.member import Member


Named = dict[str, Tensor]  # the student's raw outputs, or a gradient with respect to each


def save_gradients(
    member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int
) -> Iterator[Event]:
    """Save a gradient snapshot of the member on the batch of step ``step`` (from 1).

    A failure is a warning, since training can continue.
    """
    assert member.directory is not None
    if not member.objective.weights_at(step - 1):
        return
    train = member.config.train
    try:
        gradients = diagnose(
            member.state,
            member.masked(batch, step - 1),
            teacher_outputs,
            member.objective,
            step - 1,
            train.precision,
            micro_batch_size=train.micro_batch_size,
        )
        write_snapshot(member.directory, gradients)
    except (OSError, ValueError, torch.OutOfMemoryError) as error:
        yield Warned(run=member.run, step=step, message=f"gradients not saved: {error}")


def diagnose(
    state: TrainState,
    batch: Batch,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    precision: str = "fp32",
    *,
    micro_batch_size: int = 0,
) -> Gradients:
    """Inner products of the weighted gradients of the losses that are on at ``step`` (from 0), [K, K] per place.

    Places are the raw image and text embeddings (masked images count as images) and the weights of each tower. A loss
    on intermediate features of the image tower has a gradient at that tower only. Nothing changes: no weight, no
    ``.grad``, no batch-norm statistic, no random state. Memory: a training step and K gradients of one tower.

    Args:
        batch, teacher_outputs: as for :func:`~workbench.engine.step.backward`.
        micro_batch_size: as there; the result is the same.
    """
    rows = list(micro_batches(len(batch), micro_batch_size or len(batch)))
    loss_inputs, weights = objective.loss_inputs(step), objective.weights_at(step)

    def forward(some: slice) -> Encoded:
        return encode(state, take_rows(batch, some), loss_inputs, precision)

    with _unchanged(state):
        state.student.train()
        with torch.set_grad_enabled(len(rows) == 1):
            chunks = [forward(some) for some in rows]
        per_loss = _output_gradients(state, Encoded.leaves(chunks), teacher_outputs, objective, step, weights)
        products: dict[Place, Tensor] = {
            "image": _products([[named[name] for name in ("image", "masked") if name in named] for named in per_loss]),
            "text": _products([[named["text"]] for named in per_loss]),
        }
        # Tower by tower, so that only the gradients of one are in memory; micro-batches are embedded again for each.
        for tower, parameters in _towers(state.student).items():
            encoded = ((some, chunks[0] if len(rows) == 1 else forward(some)) for some in rows)
            products[tower] = _products(_weight_gradients(per_loss, encoded, parameters))
    return Gradients(step + 1, tuple(weights), {place: found_KK.cpu().numpy() for place, found_KK in products.items()})


def output_norms(
    state: TrainState,
    batch: Batch,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    precision: str = "fp32",
    *,
    micro_batch_size: int = 0,
) -> dict[str, float]:
    """Gradient norm at the student's raw outputs, at weight 1, of each loss that is on at ``step``.

    It costs one forward and no backward through a tower. Nothing changes, as in :func:`diagnose`.
    """
    rows = micro_batches(len(batch), micro_batch_size or len(batch))
    loss_inputs = objective.loss_inputs(step)
    with _unchanged(state):
        state.student.train()
        with torch.no_grad():
            chunks = [encode(state, take_rows(batch, some), loss_inputs, precision) for some in rows]
        names = list(objective.weights_at(step))
        per_loss = _output_gradients(
            state, Encoded.leaves(chunks), teacher_outputs, objective, step, dict.fromkeys(names, 1.0)
        )
    squares = [sum(float(tensor.double().square().sum()) for tensor in named.values()) for named in per_loss]
    return {name: math.sqrt(square) for name, square in zip(names, squares, strict=True)}


def _output_gradients(
    state: TrainState,
    leaves: Encoded,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    weights: Mapping[str, float],
) -> list[Named]:
    """The weighted gradient of each loss with respect to the student's outputs."""
    comparison = compare(state, leaves, teacher_outputs, objective, step)
    outputs = leaves.tensors()
    per_loss = []
    for name, weight in weights.items():
        value = weight * compute_loss(objective.terms[name].loss, comparison)
        per_loss.append(dict(zip(outputs, _gradients([value], [None], [*outputs.values()]), strict=True)))
    return per_loss


def _weight_gradients(
    per_loss: list[Named], encoded: Iterable[tuple[slice, Encoded]], parameters: list[nn.Parameter]
) -> list[list[Tensor]]:
    """The gradient of each loss with respect to the parameters, summed over micro-batches, by backpropagation."""
    gradients = [[torch.zeros_like(parameter) for parameter in parameters] for _ in per_loss]
    for rows, chunk in encoded:
        outputs = chunk.tensors()
        for named, gradient in zip(per_loss, gradients, strict=True):
            found = _gradients([*outputs.values()], [named[name][rows] for name in outputs], parameters)
            for total, term in zip(gradient, found, strict=True):
                total.add_(term)
    return gradients


def _gradients(values: list[Tensor], factors: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """``torch.autograd.grad`` that retains the graph; zeros for inputs that no value depends on."""
    known = [(value, factor) for value, factor in zip(values, factors, strict=True) if value.requires_grad]
    if not known or not inputs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    outputs, directions = zip(*known, strict=True)
    return list(torch.autograd.grad(outputs, inputs, directions, retain_graph=True, materialize_grads=True))


def _products(gradients: list[list[Tensor]]) -> Tensor:
    """Inner products of K gradients, each a list of tensors: float64 [K, K]."""
    num_losses = len(gradients)
    sum_KK = torch.zeros(num_losses, num_losses, dtype=torch.float64)
    for same in zip(*gradients, strict=True):
        stacked_KP = torch.stack(same).flatten(1)
        sum_KK = sum_KK.to(stacked_KP.device) + (stacked_KP @ stacked_KP.T).double()
    return sum_KK


def _towers(student: Clip) -> dict[Place, list[nn.Parameter]]:
    """The trainable weights of the image and the text tower."""
    image = list(student.towers.visual.parameters())
    not_text = {id(parameter) for parameter in (*image, student.towers.logit_scale)}
    text = [parameter for parameter in student.towers.parameters() if id(parameter) not in not_text]
    towers: dict[Place, list[nn.Parameter]] = {"image_tower": image, "text_tower": text}
    return {place: [p for p in parameters if p.requires_grad] for place, parameters in towers.items()}


@contextmanager
def _unchanged(state: TrainState) -> Iterator[None]:
    """Restore buffers, train mode and random state at the end."""
    was_training = state.student.training
    buffers = {buffer: buffer.clone() for buffer in state.buffers()}
    device = state.student.scale.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers.items():
                    buffer.copy_(before)
            state.student.train(was_training)
