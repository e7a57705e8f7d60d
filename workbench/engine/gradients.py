"""How each loss pulls at the student: the gradients one by one, which training only ever sees added up.

Shape letters: K losses, P weights of one parameter."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from workbench.embeddings import Batch
from workbench.engine.state import TrainState
from workbench.engine.step import Encoded, compare, encode, micro_batches, take_rows
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Event, Warned
from workbench.losses.custom import compute_loss
from workbench.losses.objective import Objective
from workbench.models.clip import Clip
from workbench.runs.gradient_snapshots import Gradients, Place, write_gradients

if TYPE_CHECKING:
    from workbench.engine.member import Member


Named = dict[str, Tensor]  # the student's raw outputs, or a gradient with respect to each

STEPS_PER_COST = 40  # steps between two diagnoses for each step that one costs; 20 are the 5 % that are promised


def diagnose_every(setting: int | Literal["auto"], num_losses: int, num_steps: int) -> int:
    """Steps between two diagnoses of a run of ``num_steps``, the first at step 1; 0 for none.

    A diagnosis is one forward and, a backward being two forwards, K backwards: (1 + 2K) / 3 steps. "auto" leaves 40
    times as many between two, and diagnoses no run shorter than 20 times as many, so that by this count it never takes
    more than 5 % of the steps' time.
    """
    if setting != "auto":
        return setting
    thirds_of_a_step = 1 + 2 * num_losses
    if 3 * num_steps < STEPS_PER_COST // 2 * thirds_of_a_step:
        return 0
    return -(-STEPS_PER_COST * thirds_of_a_step // 3)


def diagnoses_at(step: int, every_steps: int) -> bool:
    """Whether a run is diagnosed after ``step`` steps."""
    return every_steps > 0 and (step == 1 or step % every_steps == 0)


def save_gradients(
    member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int
) -> Iterator[Event]:
    """Diagnose the member on the batch of the last of its ``step`` steps, and keep what was found in its directory.

    Failing to is a warning, for the run itself is sound.
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
        write_gradients(member.directory, gradients)
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
    """The gradients of the losses that are on at ``step`` (from 0), times their weights, as products of each two.

    They are taken with respect to the raw embeddings, those of masked pictures included, and through these to the
    weights of each tower; what a loss compares inside the image tower shows at that tower only. Nothing is changed:
    no weight, no ``.grad``, no statistic of a batch normalisation, no random state. The memory is that of a training
    step, and K copies of one tower's gradient.

    Args:
        batch, lesson: as :func:`~workbench.engine.step.backward` takes them.
        micro_batch_size: as there, and as exact.
    """
    rows = list(micro_batches(len(batch), micro_batch_size or len(batch)))
    loss_inputs = objective.loss_inputs(step)

    def forward(some: slice) -> Encoded:
        return encode(state, take_rows(batch, some), loss_inputs, precision)

    with _unchanged(state):
        state.student.train()
        with torch.set_grad_enabled(len(rows) == 1):
            chunks = [forward(some) for some in rows]
        pulls = _pulls(state, Encoded.leaves(chunks), teacher_outputs, objective, step, objective.weights_at(step))
        products: dict[Place, Tensor] = {
            "image": _products([[pull[name] for name in ("image", "masked") if name in pull] for pull in pulls]),
            "text": _products([[pull["text"]] for pull in pulls]),
        }
        for tower, parameters in _towers(state.student).items():
            gradients = [[torch.zeros_like(parameter) for parameter in parameters] for _ in pulls]
            for some in rows:
                _carry(pulls, some, chunks[0] if len(rows) == 1 else forward(some), parameters, gradients)
            products[tower] = _products(gradients)
    losses = tuple(objective.weights_at(step))
    return Gradients(step + 1, losses, {place: found_KK.cpu().numpy() for place, found_KK in products.items()})


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
    """The norm of the gradient at the student's raw outputs, at weight 1, of each loss that is on at ``step``.

    It costs a forward, and nothing is carried through a tower; nothing is changed, as by :func:`diagnose`.
    """
    rows = micro_batches(len(batch), micro_batch_size or len(batch))
    loss_inputs = objective.loss_inputs(step)
    with _unchanged(state):
        state.student.train()
        with torch.no_grad():
            chunks = [encode(state, take_rows(batch, some), loss_inputs, precision) for some in rows]
        names = list(objective.weights_at(step))
        pulls = _pulls(state, Encoded.leaves(chunks), teacher_outputs, objective, step, dict.fromkeys(names, 1.0))
    squares = [sum(float(tensor.double().square().sum()) for tensor in pull.values()) for pull in pulls]
    return {name: math.sqrt(square) for name, square in zip(names, squares, strict=True)}


def _pulls(
    state: TrainState,
    whole: Encoded,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    weights: Mapping[str, float],
) -> list[Named]:
    """Every loss's gradient with respect to the student's outputs, times its weight."""
    comparison = compare(state, whole, teacher_outputs, objective, step)
    outputs = whole.tensors()
    pulls = []
    for name, weight in weights.items():
        value = weight * compute_loss(objective.terms[name].loss, comparison)
        pulls.append(dict(zip(outputs, _gradients([value], [None], [*outputs.values()]), strict=True)))
    return pulls


def _carry(
    pulls: list[Named], rows: slice, encoded: Encoded, parameters: list[nn.Parameter], gradients: list[list[Tensor]]
) -> None:
    """Add what the pulls at these rows' outputs are at the weights behind them to every loss's gradient."""
    outputs = encoded.tensors()
    for pull, gradient in zip(pulls, gradients, strict=True):
        found = _gradients([*outputs.values()], [pull[name][rows] for name in outputs], parameters)
        for total, term in zip(gradient, found, strict=True):
            total.add_(term)


def _gradients(values: list[Tensor], factors: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """``torch.autograd.grad`` that keeps the graph; zeros for what no value depends on."""
    known = [(value, factor) for value, factor in zip(values, factors, strict=True) if value.requires_grad]
    if not known or not inputs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    outputs, directions = zip(*known, strict=True)
    return list(torch.autograd.grad(outputs, inputs, directions, retain_graph=True, materialize_grads=True))


def _products(gradients: list[list[Tensor]]) -> Tensor:
    """Inner products of K gradients, each a list of tensors, as float64 [K, K]."""
    num_losses = len(gradients)
    sum_KK = torch.zeros(num_losses, num_losses, dtype=torch.float64)
    for same in zip(*gradients, strict=True):
        stacked_KP = torch.stack(same).flatten(1)
        sum_KK = sum_KK.to(stacked_KP.device) + (stacked_KP @ stacked_KP.T).double()
    return sum_KK


def _towers(student: Clip) -> dict[Place, list[nn.Parameter]]:
    """The weights of the image and of the text tower that learn."""
    image = list(student.towers.visual.parameters())
    apart = {id(parameter) for parameter in (*image, student.towers.logit_scale)}
    text = [parameter for parameter in student.towers.parameters() if id(parameter) not in apart]
    towers: dict[Place, list[nn.Parameter]] = {"image_tower": image, "text_tower": text}
    return {place: [p for p in parameters if p.requires_grad] for place, parameters in towers.items()}


@contextmanager
def _unchanged(state: TrainState) -> Iterator[None]:
    """Buffers, training mode and random state are afterwards what they were."""
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
