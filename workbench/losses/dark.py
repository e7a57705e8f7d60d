"""Diagonal-anchored repulsive distillation: imitate the teacher's confidence, then leave its confusions."""

import math
from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, TargetLoss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy


class DarkLoss(TargetLoss):
    """Cross-entropy from the teacher's softmax to the student's, with a weight β of its own for unmatched pairs.

    The matched pairs (diagonal) keep weight 1. β goes linearly from ``first`` at the first step to ``last`` at the end
    of training: above 0 the student imitates the teacher's similarities of unmatched pairs, below 0 it is repelled from
    them. Both directions are averaged. Unit: nats, mean over the pairs; negative values are possible. At β = 1 it is
    half of :class:`~workbench.losses.affinity.AffinityLoss`. The paper divides the teacher's logits by a temperature of
    5 and leaves the student's as they are; its KL divergence and the release's cross-entropy differ by a constant.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
        first, last: β at the start and at the end of training; 2 and −0.8 in the paper's best run.
    """

    name = "dark"
    title = "diagonal-anchored repulsive distillation"
    paper = "DARK (arXiv 2603.05421)"
    equation = "−½ mean_k (pᵀ[k,k] log pˢ[k,k] + β Σ_{b≠k} pᵀ[k,b] log pˢ[k,b]) + the same for q, β = β₀ → β₁"
    needs_projection = False
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = "student",
        teacher_scale: float | str = "0.2 x teacher",
        first: float = 2.0,
        last: float = -0.8,
    ) -> None:
        super().__init__(convention, scale, teacher_scale)
        for name, value in {"first": first, "last": last}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is a weight of unmatched pairs, such as 2 or -0.8 (got {value!r})")
        self.first, self.last = float(first), float(last)

    def __call__(self, comparison: Comparison) -> Tensor:
        teacher = self.target(comparison)
        student = comparison.logits(("student", "image"), ("student", "text"), self.scale_of(comparison))
        matched = sum(
            (target_B * (log_sums_B - student.diagonal_B)).mean()
            for target_B, log_sums_B in zip(teacher.matched_probabilities, student.log_sums, strict=True)
        )
        beta = self.first + comparison.progress * (self.last - self.first)
        # β · all + (1 − β) · matched: no B × B mask, so that blocks of rows suffice.
        return (beta * cross_entropy(teacher, student) + (1 - beta) * matched) / 2
