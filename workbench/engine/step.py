"""From a batch to gradients, and two monitors of the result: steps that are not finite, and loss spikes."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from workbench.embeddings import Batch, Embeddings, FeatureKey
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.state import TrainState
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import StepDone
from workbench.losses.comparison import Comparison, Features
from workbench.losses.objective import LossInputs, Objective, Values
from workbench.losses.tf32 import tf32_products
from workbench.models.precision import autocast


@dataclass(frozen=True)
class Encoded:
    """Student outputs for a batch: embeddings before normalization, and intermediate features that losses compare."""

    image_BD: Tensor
    text_BD: Tensor
    masked_BD: Tensor | None  # of the masked images, where image_BD is of the unmasked ones
    features: dict[FeatureKey, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        named = {"image": self.image_BD, "text": self.text_BD, "masked": self.masked_BD}
        named |= {f"{key.form} of block {key.block}": tensor for key, tensor in self.features.items()}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @staticmethod
    def leaves(chunks: list["Encoded"], ranks: Ranks = ALONE) -> "Encoded":
        """The whole batch, from the chunks of every rank, detached: leaves to differentiate with respect to."""

        def joined(tensors: list[Tensor]) -> Tensor:
            return ranks.gather(torch.cat(tensors)).requires_grad_()

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
    teacher_outputs: TeacherOutputs | None,
    objective: Objective,
    step: int,
    *,
    micro_batch_size: int = 0,
    precision: str = "fp32",
    scaled: Callable[[Tensor], Tensor] = lambda total: total,
    ranks: Ranks = ALONE,
) -> Values:
    """Accumulate the gradient of the objective at ``step`` into the state's parameters.

    With micro-batches the gradient is the same, for one more forward and the activations of one micro-batch only.

    Args:
        batch: the pairs of this rank.
        teacher_outputs: for the pairs of all ranks, as the values are.
        scaled: multiplies the objective by the loss scale, and with it every gradient.
        ranks: with several, each holds its part of the gradient afterwards; :meth:`Ranks.sum_gradients` joins them.
    """
    loss_inputs = objective.loss_inputs(step)
    if ranks.size == 1 and not 0 < micro_batch_size < len(batch) and not objective.in_tf32:
        comparison = compare(state, encode(state, batch, loss_inputs, precision), teacher_outputs, objective, step)
        values = objective(comparison, step)
        scaled(values.total).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return values
    # A contrastive loss needs every pair of the batch, so gradients cannot be summed over micro-batches. Instead embed
    # all pairs without a graph, differentiate the objective with respect to the embeddings, then embed each micro-batch
    # again with a graph and backpropagate the gradient of its rows. Several ranks do the same with each other's rows,
    # and losses in TF32 with the whole batch, since the towers' own products are not rounded.
    slices = list(micro_batches(len(batch), micro_batch_size or len(batch)))
    keeps_graph = len(slices) == 1
    with torch.set_grad_enabled(keeps_graph):
        chunks = [encode(state, take_rows(batch, rows), loss_inputs, precision) for rows in slices]
    leaves = Encoded.leaves(chunks, ranks)
    with tf32_products(objective.in_tf32):
        values = objective(compare(state, leaves, teacher_outputs, objective, step), step)
        scaled(values.total).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not ranks.is_first:
        state.zero_whole_batch_gradients()
    own = ranks.rows(len(leaves.text_BD))
    gradients = {name: None if x.grad is None else x.grad[own] for name, x in leaves.tensors().items()}
    for rows, chunk in zip(slices, chunks, strict=True):
        again = (chunk if keeps_graph else encode(state, take_rows(batch, rows), loss_inputs, precision)).tensors()
        pairs = [
            (again[name], gradient[rows])
            for name, gradient in gradients.items()
            if gradient is not None and again[name].requires_grad  # false for a frozen tower
        ]
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
    return values


def encode(state: TrainState, batch: Batch, loss_inputs: LossInputs, precision: str) -> Encoded:
    """Student forward: embeddings before normalization, and the features and masked images that losses compare."""
    student, keys = state.student, loss_inputs.student_features
    images_BCHW, kept_BK = batch.student_image_BCHW, batch.kept_BK
    # Where only one loss compares masked images, the image tower runs twice: on all patches and on the kept ones.
    is_extra = loss_inputs.masking is not None and not loss_inputs.masking.feeds_all
    with autocast(images_BCHW.device, precision):
        image_BD, features = student.encode_image_with_features(images_BCHW, keys, None if is_extra else kept_BK)
        masked_BD = student.encode_image(images_BCHW, kept_BK) if is_extra else None
        text_BD = student.encode_text(batch.student_text_BL)
    return Encoded(image_BD, text_BD, masked_BD, features)


def compare(
    state: TrainState, encoded: Encoded, teacher_outputs: TeacherOutputs | None, objective: Objective, step: int
) -> Comparison:
    """Student and teacher outputs as the losses compare them, embeddings normalized in float32."""
    scale, bias, text_BD = state.student.scale, state.student.bias, encoded.text_BD

    def at_teacher_width(image_BD: Tensor) -> Embeddings | None:
        return state.learned.project(image_BD, text_BD, scale, bias)

    student = Embeddings.from_raw(encoded.image_BD, text_BD, scale, bias)
    masked = None
    if encoded.masked_BD is not None:
        masked = at_teacher_width(encoded.masked_BD) or Embeddings.from_raw(encoded.masked_BD, text_BD, scale, bias)
    return Comparison(
        student,
        teacher_outputs.embeddings if teacher_outputs else None,
        at_teacher_width(encoded.image_BD) or student,
        state.learned.parts,
        masked,
        _matched(encoded, teacher_outputs, objective.loss_inputs(step)),
        objective.chunk_size,
        objective.progress(step),
        teacher_outputs.candidates if teacher_outputs else None,
        objective.in_tf32,
    )


def _matched(encoded: Encoded, teacher_outputs: TeacherOutputs | None, loss_inputs: LossInputs) -> dict[str, Features]:
    if not loss_inputs.features:
        return {}
    assert teacher_outputs is not None
    return {
        loss: Features(
            tuple(encoded.features[key] for key in request.student),
            tuple(teacher_outputs.features[key] for key in request.teacher),
        )
        for loss, request in loss_inputs.features.items()
    }


def micro_batches(num_pairs: int, size: int) -> Iterator[slice]:
    """The rows of each micro-batch."""
    return (slice(start, start + size) for start in range(0, num_pairs, size))


def take_rows(batch: Batch, rows: slice) -> Batch:
    """Some pairs of a batch, without the teachers' inputs."""
    kept_BK = None if batch.kept_BK is None else batch.kept_BK[rows]
    return Batch(batch.keys[rows], batch.student_image_BCHW[rows], batch.student_text_BL[rows], kept_BK=kept_BK)


SHOWN_KEYS = 3  # pairs named in a message


@dataclass(frozen=True)
class Divergence:
    """The first step whose loss or gradient was not finite.

    ``parameter`` is the first whose gradient was not, and ``keys`` are pairs of the batch. Both are known on a CPU
    only: on a GPU they would take a synchronization at every step.
    """

    step: int
    term: str
    parameter: str = ""
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (first in the gradient of {self.parameter}; pairs {', '.join(self.keys)}, ...)" if self.keys else ""
        return f"{self.term} was not finite at step {self.step}{where}"


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor with an infinity or a NaN; empty if there is none. Waits for a GPU."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")


class DivergenceMonitor:
    """Counts the steps of one student whose loss or gradient was not finite.

    It counts on the device: ``locate`` and ``record`` run at every step and never wait for a GPU, the others do.

    Args:
        terms: names of the losses, in the order of their values.
        max_skipped: such steps that are skipped before the run ends as diverged.
    """

    def __init__(self, terms: tuple[str, ...], max_skipped: int, device: torch.device) -> None:
        self._names = terms
        self._max_skipped = max_skipped
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._step = torch.full((), -1, dtype=torch.int64, device=device)
        self._terms = torch.zeros(len(terms), device=device)
        self._parameter = ""
        self._keys: tuple[str, ...] = ()
        self._num_reported = 0
        self._weights: Divergence | None = None

    def locate(self, module: nn.Module, is_bad: Tensor, keys: tuple[str, ...]) -> None:
        """Remember the first parameter whose gradient is not finite, and the pairs of that batch; on a CPU only."""
        if is_bad.device.type != "cpu" or self._keys or not is_bad:
            return
        gradients = ((name, p.grad) for name, p in module.named_parameters() if p.grad is not None)
        self._parameter = next((name for name, grad in gradients if not grad.isfinite().all()), "none alone")
        self._keys = keys[:SHOWN_KEYS]

    def record(self, step: int, is_bad: Tensor, terms: Tensor) -> None:
        """Count step ``step`` (from 1) if ``is_bad`` (0-d bool); ``terms`` are the loss values, [K]."""
        is_first = is_bad & (self._step < 0)
        self._step = torch.where(is_first, step, self._step)
        self._terms = torch.where(is_first, terms, self._terms)
        self._count += is_bad

    def inspect(self, module: nn.Module, step: int) -> bool:
        """Whether all weights are finite after ``step`` steps; if not, the run has diverged. Waits for the device."""
        # Finite gradients do not ensure it: at a learning rate of 1e38 the update itself overflows.
        if name := first_not_finite(module.state_dict()):
            self._weights = Divergence(step, f"the weight {name}")
        return not name

    def found(self) -> Divergence | None:
        """The first bad step if more than ``max_skipped`` were bad, or weights that are not finite; else None."""
        return self._first() if int(self._count) > self._max_skipped else self._weights

    def new_warning(self) -> str:
        """A warning of steps skipped since the last call; empty if there are none."""
        count = int(self._count)
        if count == self._num_reported or count > self._max_skipped:
            return ""
        self._num_reported = count
        steps = "step" if count == 1 else "steps"
        return f"{count} {steps} skipped (train.max_skipped_steps={self._max_skipped}): {self._first()}"

    def _first(self) -> Divergence:
        values = dict(zip(self._names, self._terms.tolist(), strict=True))
        names = [name for name, value in values.items() if not math.isfinite(value)]
        return Divergence(int(self._step), names[0] if names else "gradient norm", self._parameter, self._keys)


SPIKE = 10.0  # times the usual loss
NUM_USUAL = 10  # logged losses; their median is the usual loss
NUM_NEEDED = 5  # logged losses before there is a usual loss


class SpikeMonitor:
    """Finds spikes in the logged losses of one run; each is reported once."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=NUM_USUAL)
        self._terms: set[str] = set()
        self._is_spiking = False

    def new_warning(self, event: StepDone) -> str:
        """A warning if the loss has just spiked to 10 times its recent median; else empty."""
        # A loss that is switched on or off changes the sum, so the median starts again.
        if event.terms.keys() != self._terms:
            self._losses.clear()
            self._terms = set(event.terms)
        usual = median(self._losses) if len(self._losses) >= NUM_NEEDED else 0.0
        is_spike = 0 < SPIKE * usual < event.loss
        is_new = is_spike and not self._is_spiking
        self._is_spiking = is_spike
        if not is_spike:
            self._losses.append(event.loss)
        if not is_new:
            return ""
        worst = max(event.weighted, key=lambda name: event.weighted[name])
        return f"loss spike: {event.loss:.4g}, recent median {usual:.4g}, mostly from {worst}; training continues"
