"""Where weights meet losses: the one place that adds them up."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.config.run import LossConfig
from workbench.config.schedule import Schedule
from workbench.embeddings import FeatureKey
from workbench.losses.base import FeatureRequest, Loss, Masking
from workbench.losses.comparison import Comparison
from workbench.losses.custom import copied, value_of
from workbench.losses.logits import checked_chunk_size, default_chunk_size
from workbench.losses.registry import make_loss


@dataclass(frozen=True)
class Term:
    """One loss of the objective: its weight as the config names it, by step, and what carries that to this run."""

    loss: Loss
    schedule: Schedule
    factor: float

    def weight(self, step: int) -> float:
        """The weight that is applied at ``step``, counted from 0."""
        return self.factor * self.schedule.at(step)

    @property
    def largest_weight(self) -> float:
        """The largest weight that is applied at any step."""
        return self.factor * self.schedule.largest


@dataclass(frozen=True)
class LossInputs:
    """What the losses of one step want to be given."""

    teacher: bool
    masking: Masking | None
    features: dict[str, FeatureRequest]

    @property
    def student_features(self) -> tuple[FeatureKey, ...]:
        """The student's inner features, each once."""
        return tuple(dict.fromkeys(key for request in self.features.values() for key in request.student))

    @property
    def teacher_features(self) -> tuple[FeatureKey, ...]:
        """The teacher's inner features, each once."""
        return tuple(dict.fromkeys(key for request in self.features.values() for key in request.teacher))


@dataclass(frozen=True)
class Values:
    """One batch's objective: ``total`` to differentiate, and each loss before weighting, detached."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective:
    """The weighted sum of the losses of a run. A loss is not computed at steps at which its weight is 0.

    Args:
        configs: loss settings by name.
        batch_size, width: the batch and the teacher's embedding width, to which published weights are translated.
        chunk_size: rows of a B × B matrix that are held at once; 0 holds it whole, None goes by the batch size.

    Raises:
        ValueError: an unknown loss or option, a weight that cannot be, no loss at all, two losses that mask, or a loss
            that needs the teacher when there is none (``width`` None).
    """

    def __init__(
        self,
        configs: Mapping[str, LossConfig],
        batch_size: int,
        width: int | None,
        chunk_size: int | None = None,
    ) -> None:
        self.chunk_size = default_chunk_size(batch_size) if chunk_size is None else checked_chunk_size(chunk_size)
        self.terms: dict[str, Term] = {}
        for name, config in configs.items():
            loss = make_loss(name, file=config.file, **config.options())
            if not config.schedule.is_ever_on:
                continue
            if loss.needs_teacher and width is None:
                raise ValueError(f"loss.{name} compares with a teacher: name one with --set teacher.model=SPEC")
            _check_weight(name, loss, config.schedule.value)
            factor = loss.translation(batch_size, width or 1) if config.weight_at == "published" else 1.0
            self.terms[name] = Term(loss, config.schedule, factor)
        if not self.terms:
            raise ValueError("every loss has weight 0: give one a weight, e.g. --set loss.clip.weight=1")
        maskings = [loss.masking for loss in self.losses.values() if loss.masking]
        if len(maskings) > 1:
            raise ValueError("two losses remove patches of the student's pictures: give one of them mask_ratio = 0")
        self.masking: Masking | None = maskings[0] if maskings else None

    @property
    def losses(self) -> dict[str, Loss]:
        return {name: term.loss for name, term in self.terms.items()}

    @property
    def weights(self) -> dict[str, float]:
        """The weights as applied once every ramp is over, by loss name."""
        return {name: term.factor * term.schedule.value for name, term in self.terms.items()}

    def weights_at(self, step: int) -> dict[str, float]:
        """The weights as applied at ``step`` (from 0), by loss name; a loss that is off is left out."""
        weights = {name: term.weight(step) for name, term in self.terms.items()}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def reweighed(self, name: str, weight: Any) -> "Objective":
        """The same with one loss at another weight, as a config names it, at every step.

        Raises:
            ValueError: it cannot have this weight.
        """
        config = LossConfig.parse({"weight": weight})
        _check_weight(name, self.terms[name].loss, config.schedule.value)
        other = copy(self)
        other.terms = self.terms | {name: replace(self.terms[name], schedule=config.schedule)}
        return other

    def apart(self) -> "Objective":
        """The same with copies of the losses in users' files, which may count their calls: to look without a trace."""
        other = copy(self)
        other.terms = {
            name: replace(term, loss=copied(term.loss)) if term.loss.file else term for name, term in self.terms.items()
        }
        return other

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss compares with the teacher at any step."""
        return any(loss.needs_teacher for loss in self.losses.values())

    @property
    def features(self) -> dict[str, FeatureRequest]:
        """The inner features that losses compare at any step, by loss name."""
        return {name: loss.features for name, loss in self.losses.items() if loss.features}

    def loss_inputs(self, step: int) -> LossInputs:
        """What the losses that are on at ``step`` want to be given."""
        losses = {name: self.terms[name].loss for name in self.weights_at(step)}
        return LossInputs(
            teacher=any(loss.needs_teacher for loss in losses.values()),
            masking=self.masking if any(loss.masking for loss in losses.values()) else None,
            features={name: loss.features for name, loss in losses.items() if loss.features},
        )

    def __call__(self, comparison: Comparison, step: int = 0) -> Values:
        """The objective of one batch at ``step``, in float32 whatever the towers' precision."""
        values = self.unweighted(comparison, step)
        weighted = [weight * values[name] for name, weight in self.weights_at(step).items()]
        total = torch.stack(weighted).sum() if weighted else 0 * comparison.student.scale
        return Values(total, {name: value.detach() for name, value in values.items()})

    def unweighted(self, comparison: Comparison, step: int = 0) -> dict[str, Tensor]:
        """Every loss that is on at ``step``, 0-d each."""
        return {name: value_of(self.terms[name].loss, comparison) for name in self.weights_at(step)}


def _check_weight(name: str, loss: Loss, weight: float) -> None:
    try:
        loss.check_weight(weight)
    except ValueError as error:
        raise ValueError(f"loss.{name}: {error}") from None
