"""The training objective: the weighted sum of a run's losses."""

from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.config.base import Schedule
from workbench.config.run import LossConfig
from workbench.embeddings import Embeddings, FeatureKey
from workbench.losses.base import FeatureRequest, Loss, Masking
from workbench.losses.comparison import Comparison
from workbench.losses.learned import LearnedParts
from workbench.losses.logits import checked_chunk_size, default_chunk_size
from workbench.losses.registry import compute_loss, make_loss, user_file_errors

# Of the random embeddings that users' losses are tried on.
TRIAL_SCALE, TRIAL_TEACHER_SCALE, TRIAL_BIAS = 14.3, 50.0, -10.0


@dataclass(frozen=True)
class Term:
    """One loss of the objective, its weight schedule, and the factor that converts published weights to this run."""

    loss: Loss
    schedule: Schedule
    factor: float

    def weight(self, step: int) -> float:
        """The weight in effect at ``step``, counted from 0."""
        return self.factor * self.schedule.at(step)

    @property
    def largest_weight(self) -> float:
        """The largest weight in effect at any step."""
        return self.factor * self.schedule.largest


@dataclass(frozen=True)
class LossInputs:
    """Inputs that the losses of one step need."""

    teacher: bool
    masking: Masking | None
    features: dict[str, FeatureRequest]
    candidates: bool = False  # the teacher's embeddings of all training pairs

    @property
    def student_features(self) -> tuple[FeatureKey, ...]:
        """Image-tower features of the student, without duplicates."""
        return tuple(dict.fromkeys(key for request in self.features.values() for key in request.student))

    @property
    def teacher_features(self) -> tuple[FeatureKey, ...]:
        """Image-tower features of the teacher, without duplicates."""
        return tuple(dict.fromkeys(key for request in self.features.values() for key in request.teacher))


@dataclass(frozen=True)
class Values:
    """The objective on one batch: ``total``, 0-d, to differentiate, and each unweighted loss, 0-d, detached."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective:
    """The weighted sum of a run's losses. A loss is not computed at steps where its weight is 0.

    Args:
        configs: loss settings by name.
        batch_size, width: batch size and teacher width that published weights are converted to; ``width`` is None
            without a teacher.
        chunk_size: rows of a B × B matrix in memory at once; 0 keeps the dense matrix, None chooses by batch size.
        num_steps: steps of the run, for losses that change during training.
        in_tf32: matrix products in TF32 (:mod:`workbench.losses.tf32`).

    Raises:
        ValueError: an unknown loss or setting, an invalid weight, no loss at all, two losses that mask patches, or a
            loss that needs a teacher where there is none.
    """

    def __init__(
        self,
        configs: Mapping[str, LossConfig],
        batch_size: int,
        width: int | None,
        chunk_size: int | None = None,
        num_steps: int = 0,
        *,
        in_tf32: bool = False,
    ) -> None:
        self._num_steps = num_steps
        self.in_tf32 = in_tf32
        self.chunk_size = default_chunk_size(batch_size) if chunk_size is None else checked_chunk_size(chunk_size)
        self.terms: dict[str, Term] = {}
        for name, config in configs.items():
            loss = make_loss(name, file=config.file, **config.options())
            if not config.schedule.is_ever_on:  # options were validated above; the loss is never computed
                continue
            if loss.needs_teacher and width is None:
                raise ValueError(f"loss.{name} compares with a teacher: name one with --set teacher.model=SPEC")
            _check_weight(name, loss, config.schedule.value)
            factor = loss.translation(batch_size, width or 1) if config.weight_at == "published" else 1.0
            self.terms[name] = Term(loss, config.schedule, factor)
        if not self.terms:
            raise ValueError("every loss has weight 0: give one a weight, e.g. --set loss.clip.weight=1")
        if in_tf32 and self.needs_candidates:
            raise ValueError(
                'candidates = "all" compares with embeddings that are not rounded to TF32: set '
                "train.loss_precision=fp32"
            )
        maskings = [loss.masking for loss in self.losses.values() if loss.masking]
        if len(maskings) > 1:
            raise ValueError("two losses remove patches of the student's images: give one of them mask_ratio = 0")
        self.masking: Masking | None = maskings[0] if maskings else None

    @property
    def losses(self) -> dict[str, Loss]:
        return {name: term.loss for name, term in self.terms.items()}

    @property
    def weights(self) -> dict[str, float]:
        """Final weights, after all ramps, by loss name."""
        return {name: term.factor * term.schedule.value for name, term in self.terms.items()}

    def weights_at(self, step: int) -> dict[str, float]:
        """Weights in effect at ``step`` (from 0), by loss name, without losses of weight 0."""
        weights = {name: term.weight(step) for name, term in self.terms.items()}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def reweighed(self, name: str, weight: Any) -> "Objective":
        """A copy with one loss at another constant weight, given as in a config.

        Raises:
            ValueError: an invalid weight.
        """
        config = LossConfig.parse({"weight": weight})
        _check_weight(name, self.terms[name].loss, config.schedule.value)
        other = copy(self)
        other.terms = self.terms | {name: replace(self.terms[name], schedule=config.schedule)}
        return other

    def for_measurement(self) -> "Objective":
        """A copy to compute between steps: losses of users' files are copied, as they may hold state."""
        other = copy(self)
        other.terms = {
            name: replace(term, loss=_copied(term.loss)) if term.loss.file else term
            for name, term in self.terms.items()
        }
        return other

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss needs a teacher at any step."""
        return any(loss.needs_teacher for loss in self.losses.values())

    @property
    def needs_bias(self) -> bool:
        """Whether any loss uses the learned bias of the student's logits."""
        return any(loss.needs_bias for loss in self.losses.values())

    @property
    def needs_candidates(self) -> bool:
        """Whether any loss compares with all training pairs at any step."""
        return any(loss.candidates == "all" for loss in self.losses.values())

    @property
    def features(self) -> dict[str, FeatureRequest]:
        """Image-tower features that losses need at any step, by loss name."""
        return {name: loss.features for name, loss in self.losses.items() if loss.features}

    def progress(self, step: int) -> float:
        """The share of the run's steps that precede ``step`` (from 0)."""
        return step / self._num_steps if self._num_steps else 0.0

    def loss_inputs(self, step: int) -> LossInputs:
        """Inputs that the losses in effect at ``step`` need."""
        losses = {name: self.terms[name].loss for name in self.weights_at(step)}
        return LossInputs(
            teacher=any(loss.needs_teacher for loss in losses.values()),
            masking=self.masking if any(loss.masking for loss in losses.values()) else None,
            features={name: loss.features for name, loss in losses.items() if loss.features},
            candidates=any(loss.candidates == "all" for loss in losses.values()),
        )

    def __call__(self, comparison: Comparison, step: int = 0) -> Values:
        """The objective on one batch at ``step``, in float32 whatever the precision of the towers."""
        values = self.unweighted(comparison, step)
        weighted = [weight * values[name] for name, weight in self.weights_at(step).items()]
        # Without any loss in effect, a zero that still has a graph, so that the backward pass is the same.
        total = torch.stack(weighted).sum() if weighted else 0 * comparison.student.scale
        return Values(total, {name: value.detach() for name, value in values.items()})

    def unweighted(self, comparison: Comparison, step: int = 0) -> dict[str, Tensor]:
        """Every loss in effect at ``step``, 0-d each."""
        return {name: compute_loss(self.terms[name].loss, comparison) for name in self.weights_at(step)}

    def try_users_losses(
        self, learned: LearnedParts, batch_size: int, widths: tuple[int, int | None], device: torch.device
    ) -> None:
        """Call and differentiate every loss from a user's file on random embeddings, before the first step.

        Losses and learned parts are copies: neither the training state nor any random state changes. A loss that needs
        image-tower features is skipped, as their shapes depend on the model.

        Args:
            learned: learned parts of the losses, on the device.
            batch_size: of the run, as a loss may depend on it.
            widths: embedding widths of student and teacher; None without a teacher.

        Raises:
            ValueError: a loss raises an error, does not return a differentiable 0-d tensor, or is not finite.
        """
        losses = [loss for loss in self.losses.values() if loss.file and not loss.features]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for loss in losses:
                try:
                    comparison, leaves = _random(deepcopy(learned), batch_size, widths, self.chunk_size, device)
                    value = compute_loss(_copied(loss), comparison)
                    with user_file_errors(loss.name, loss.file):
                        grads = torch.autograd.grad(value, leaves, allow_unused=True)
                except (MemoryError, RuntimeError):  # training reports out-of-memory errors with a remedy
                    return
                if not all(tensor.isfinite().all() for tensor in (value, *grads) if tensor is not None):
                    what = f"{float(value):.6g}{', but its gradient is not finite' * bool(value.isfinite())}"
                    raise ValueError(
                        f"loss.{loss.name}: {loss.file}: __call__ returns {what}, on random embeddings: no step can be "
                        "taken with it, so look for a division by 0, or the log or sqrt of 0 or less"
                    )


def _check_weight(name: str, loss: Loss, weight: float) -> None:
    try:
        loss.check_weight(weight)
    except ValueError as error:
        raise ValueError(f"loss.{name}: {error}") from None


def _copied(loss: Loss) -> Loss:
    """A deep copy, as a loss may hold state; the loss itself if it cannot be copied (an open file, for example)."""
    try:
        return deepcopy(loss)
    except (Exception, SystemExit):  # whatever a user's attributes may raise
        return loss


def _random(
    learned: LearnedParts, num_pairs: int, widths: tuple[int, int | None], chunk_size: int, device: torch.device
) -> tuple[Comparison, list[Tensor]]:
    """Random embeddings as input of a loss, and the leaf tensors of the student to differentiate with respect to."""
    width, teacher_width = widths
    image_BD, text_BD, masked_BD = leaves = [
        torch.randn(num_pairs, width, device=device, requires_grad=True) for _ in range(3)
    ]
    scale = torch.tensor(TRIAL_SCALE, device=device, requires_grad=True)
    bias = torch.tensor(TRIAL_BIAS, device=device)
    student = Embeddings.from_raw(image_BD, text_BD, scale, bias)
    teacher = None
    if teacher_width is not None:
        teacher_image_BD, teacher_text_BD = torch.randn(2, num_pairs, teacher_width, device=device)
        teacher_scale = torch.tensor(TRIAL_TEACHER_SCALE, device=device)
        teacher = Embeddings.from_raw(teacher_image_BD, teacher_text_BD, teacher_scale)
    projected = learned.project(image_BD, text_BD, scale) or student
    masked = learned.project(masked_BD, text_BD, scale) or Embeddings.from_raw(masked_BD, text_BD, scale)
    return Comparison(student, teacher, projected, learned.parts, masked, chunk_size=chunk_size), leaves
