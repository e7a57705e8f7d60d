"""Where weights meet losses: the one place that adds them up."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config.run import LossConfig
from workbench.embeddings import Comparison
from workbench.losses.base import Loss
from workbench.losses.registry import make_loss


@dataclass(frozen=True)
class Term:
    """One loss of the objective, with the weight its config names and the weight that is applied."""

    loss: Loss
    given_weight: float
    weight: float


@dataclass(frozen=True)
class Values:
    """One batch's objective: ``total`` to differentiate, and each loss before weighting, detached."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective:
    """The weighted sum of the losses of a run. A loss of weight 0 is left out and never computed.

    Args:
        configs: loss settings by name.
        batch_size, width: the batch and the teacher's embedding width, to which published weights are translated.

    Raises:
        ValueError: an unknown loss or option, a negative weight, no loss at all, or a loss that needs the teacher
            when there is none (``width`` None).
    """

    def __init__(self, configs: Mapping[str, LossConfig], batch_size: int, width: int | None) -> None:
        self.terms: dict[str, Term] = {}
        for name, config in configs.items():
            loss = make_loss(name, **config.options())
            if config.weight == 0:
                continue
            if loss.needs_teacher and width is None:
                raise ValueError(f"loss.{name} compares with a teacher: name one with --set teacher.model=SPEC")
            factor = loss.translation(batch_size, width or 1) if config.weight_at == "published" else 1.0
            self.terms[name] = Term(loss, config.weight, config.weight * factor)
        if not self.terms:
            raise ValueError("every loss has weight 0: give one a weight, e.g. --set loss.clip.weight=1")

    @property
    def losses(self) -> dict[str, Loss]:
        return {name: term.loss for name, term in self.terms.items()}

    @property
    def weights(self) -> dict[str, float]:
        """The weights as applied, by loss name."""
        return {name: term.weight for name, term in self.terms.items()}

    @property
    def needs_teacher(self) -> bool:
        return any(loss.needs_teacher for loss in self.losses.values())

    def __call__(self, comparison: Comparison) -> Values:
        """The objective of one batch, in float32 whatever the towers' precision."""
        values = {name: term.loss(comparison) for name, term in self.terms.items()}
        total = torch.stack([self.terms[name].weight * value for name, value in values.items()]).sum()
        return Values(total, {name: value.detach() for name, value in values.items()})
