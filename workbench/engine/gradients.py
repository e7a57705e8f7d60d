"""Per-loss gradient norms and pairwise inner products, from which cosine similarities follow; and warnings about losses
whose gradient has no effect, as with a scale of 1e-30 or another loss's weight of 1e20.

Shape letters: K losses, P weights of one parameter."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.config.run import LossConfig, RunConfig
from workbench.embeddings import Batch
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.engine.step import Encoded, compare, encode, micro_batches, take_rows
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Event
from workbench.losses.objective import Objective
from workbench.losses.registry import compute_loss
from workbench.models.clip import Clip
from workbench.runs.snapshots import Gradients, Place

# Share of the summed norms. Below it a loss hardly changes a bit of a float32 gradient, whose resolution is 6e-8. The
# smallest share of a loss in a shipped recipe, over its first 20 steps, is 4e-4 (gd).
MIN_SHARE = 1e-6
# Fraction of optimizer.eps. AdamW divides by the root of the second moment plus eps, so a gradient this small moves a
# weight by at most this fraction of the learning rate.
MIN_OF_EPS = 1e-3

Named = dict[str, Tensor]  # the student's raw outputs, or a gradient with respect to each


def save_gradients(member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> Iterator[Event]:
    """Save a gradient snapshot of the member on the batch of step ``step`` (from 1)."""
    if member.objective.weights_at(step - 1):
        yield from member.save_snapshot(
            step, "gradients", lambda: member_gradients(member, batch, teacher_outputs, step - 1)
        )


def member_gradients(member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> Gradients:
    """:func:`diagnose` for a member as it trains, with its patches masked."""
    batch, teacher_outputs = member.selected(batch, teacher_outputs, step)
    train = member.config.train
    return diagnose(
        member.state,
        member.masked(batch, step),
        teacher_outputs,
        member.objective,
        step,
        train.precision,
        micro_batch_size=member.micro_batches.size,
        ranks=member.ranks,
    )


def diagnose(
    state: TrainState,
    batch: Batch,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    precision: str = "fp32",
    *,
    micro_batch_size: int = 0,
    ranks: Ranks = ALONE,
) -> Gradients:
    """Inner products of the weighted gradients of the losses that are on at ``step`` (from 0), [K, K] per place.

    Places are the raw image and text embeddings (masked images count as images) and the weights of each tower. A loss
    on intermediate features of the image tower has a gradient at that tower only. Nothing changes: no weight, no
    ``.grad``, no batch-norm statistic, no random state. Memory: a training step and K gradients of one tower.

    Args:
        batch, teacher_outputs, micro_batch_size, ranks: as for :func:`~workbench.engine.step.backward`; on every rank
            the result is that of the whole batch.
    """
    slices = list(micro_batches(len(batch), micro_batch_size or len(batch)))
    loss_inputs, weights = objective.loss_inputs(step), objective.weights_at(step)

    def forward(rows: slice) -> Encoded:
        return encode(state, take_rows(batch, rows), loss_inputs, precision)

    with state.unchanged():
        state.student.train()
        with torch.set_grad_enabled(len(slices) == 1):
            chunks = [forward(rows) for rows in slices]
        leaves = Encoded.leaves(chunks, ranks)
        per_loss = _output_gradients(state, leaves, teacher_outputs, objective, step, weights)
        products: dict[Place, Tensor] = {
            "image": _products([[named[name] for name in ("image", "masked") if name in named] for named in per_loss]),
            "text": _products([[named["text"]] for named in per_loss]),
        }
        own = ranks.rows(len(leaves.text_BD))
        per_loss = [{name: gradient[own] for name, gradient in named.items()} for named in per_loss]
        # Tower by tower, so that only the gradients of one are in memory; micro-batches are embedded again for each.
        for tower, parameters in _towers(state.student).items():
            encoded = ((rows, chunks[0] if len(slices) == 1 else forward(rows)) for rows in slices)
            gradients = _weight_gradients(per_loss, encoded, parameters, is_scaled=precision == "fp16")
            for of_loss in gradients:
                ranks.sum_(of_loss)
            products[tower] = _products(gradients)
    return Gradients(
        step + 1, tuple(weights), {place: products_KK.cpu().numpy() for place, products_KK in products.items()}
    )


def output_norms(
    state: TrainState,
    batch: Batch,
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    precision: str = "fp32",
    *,
    micro_batch_size: int = 0,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Gradient norm at the student's raw outputs, at weight 1, of each loss that is on at ``step``.

    It costs one forward and no backward through a tower. Nothing changes, as in :func:`diagnose`.
    """
    slices = micro_batches(len(batch), micro_batch_size or len(batch))
    loss_inputs = objective.loss_inputs(step)
    with state.unchanged():
        state.student.train()
        with torch.no_grad():
            chunks = [encode(state, take_rows(batch, rows), loss_inputs, precision) for rows in slices]
        names = list(objective.weights_at(step))
        per_loss = _output_gradients(
            state, Encoded.leaves(chunks, ranks), teacher_outputs, objective, step, dict.fromkeys(names, 1.0)
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
    per_loss: list[Named],
    encoded: Iterable[tuple[slice, Encoded]],
    parameters: list[nn.Parameter],
    *,
    is_scaled: bool,
) -> list[list[Tensor]]:
    """The gradient of each loss with respect to the parameters, summed over micro-batches, by backpropagation.

    Args:
        is_scaled: bring the largest gradient of every loss to about 1 on its way through the towers, for float16.
    """
    factors = [_power_of_two_to_one(named) if is_scaled else 1.0 for named in per_loss]
    gradients = [[torch.zeros_like(parameter) for parameter in parameters] for _ in per_loss]
    for rows, chunk in encoded:
        outputs = chunk.tensors()
        for named, gradient, factor in zip(per_loss, gradients, factors, strict=True):
            directions = [factor * named[name][rows] for name in outputs]
            for total, term in zip(gradient, _gradients([*outputs.values()], directions, parameters), strict=True):
                total.add_(term, alpha=1 / factor)
    return gradients


def _power_of_two_to_one(named: Named) -> float:
    """The power of two that brings the largest of some gradients to between 0.5 and 1; 1 if all are 0."""
    largest = max((float(gradient.abs().max()) for gradient in named.values() if gradient.numel()), default=0.0)
    return 2.0 ** -math.frexp(largest)[1] if 0 < largest < math.inf else 1.0


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
    not_text = {id(parameter) for parameter in (*image, *student.logit_parameters)}
    text = [parameter for parameter in student.towers.parameters() if id(parameter) not in not_text]
    towers: dict[Place, list[nn.Parameter]] = {"image_tower": image, "text_tower": text}
    return {place: [p for p in parameters if p.requires_grad] for place, parameters in towers.items()}


@dataclass(frozen=True)
class Remark:
    """Losses without effect, and the settings that decide it, as ``--set`` writes them."""

    message: str
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.message}; check {', '.join(self.settings)}"


def examine(member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """Remarks on the losses that are on at ``step`` (from 0), after it was taken."""
    # While masks are learned the student still equals its teacher, so that small gradients are expected. Out-of-memory
    # and non-finite norms are reported elsewhere.
    weights = member.objective.weights_at(step)
    if not weights or member.state.gates:
        return []
    train = member.config.train
    batch, teacher_outputs = member.selected(batch, teacher_outputs, step)
    try:
        norms = output_norms(
            member.state,
            member.masked(batch, step),
            teacher_outputs,
            member.objective.for_measurement(),
            step,
            train.precision,
            micro_batch_size=member.micro_batches.size,
            ranks=member.ranks,
        )
    except torch.OutOfMemoryError:
        return []
    largest = {name: member.objective.terms[name].largest_weight for name in norms}
    remarks = _without_share({name: largest[name] * norm for name, norm in norms.items()}, member.config)
    if all(weights[name] == largest[name] for name in weights):  # during a ramp a small gradient is expected
        num_weights = sum(parameter.numel() for parameter in member.state.weights)
        remarks += _vanishing(member.grad_norm, num_weights, list(weights), member.config)
    return remarks


def new_remarks(member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """:func:`examine` at the first report after a loss is switched on or its weight changed; empty at others."""
    names = member.objective.weights_at(step).keys()
    if member.state.gates or names <= member.examined:
        return []
    member.examined |= names
    return examine(member, batch, teacher_outputs, step)


def _without_share(norms: Mapping[str, float], config: RunConfig) -> list[Remark]:
    """Losses with a negligible share of the summed gradient norms."""
    total = sum(norms.values())
    if not 0 < total < math.inf:
        return []
    small = [name for name, norm in norms.items() if norm < MIN_SHARE * total]
    if not small:
        return []
    most = max(norms, key=lambda name: norms[name])
    listed = " and ".join(f"loss.{name} ({norms[name] / total:.1g} of the gradient)" for name in small)
    verb = "contributes" if len(small) == 1 else "contribute"
    settings = [text for name in (*small, most) for text in settings_of(name, config.loss[name])]
    return [Remark(f"{listed} {verb} nothing, loss.{most} nearly all", tuple(settings))]


def _vanishing(grad_norm: float, num_weights: int, losses: list[str], config: RunConfig) -> list[Remark]:
    """Whether the total gradient is so small that AdamW does not move the weights."""
    optimizer = config.optimizer
    norm = min(grad_norm, optimizer.clip_norm or math.inf)
    mean = norm / math.sqrt(num_weights) if num_weights else math.inf
    if not mean < MIN_OF_EPS * optimizer.eps:
        return []
    settings = [text for name in losses for text in settings_of(name, config.loss[name])]
    settings.append(f"optimizer.eps={optimizer.eps:g}")
    if norm < grad_norm:
        settings.append(f"optimizer.clip_norm={optimizer.clip_norm:g}")
    return [
        Remark(f"nothing is learned: the gradient is {mean:.1g} per weight, far below optimizer.eps", tuple(settings))
    ]


def settings_of(name: str, loss: LossConfig) -> list[str]:
    """The numeric settings of a loss, its weight last."""
    options = {key: value for key, value in loss.options().items() if type(value) in (int, float)}
    return [f"loss.{name}.{key}={value:g}" for key, value in {**options, "weight": loss.schedule.largest}.items()]
