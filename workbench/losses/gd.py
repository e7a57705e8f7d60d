"""Gradient distillation: let the student's embeddings be pulled as the teacher's are."""

from typing import ClassVar

import torch
from torch import Tensor

from workbench.losses.base import REFERENCE_BATCH_SIZE, REFERENCE_WIDTH, Convention
from workbench.losses.comparison import Comparison
from workbench.losses.logits import Logits
from workbench.losses.targets import TargetLoss

TOO_LARGE_FOR_PAPER = 1e4


class GdLoss(TargetLoss):
    """Squared distance between the gradients of CLIP's loss at the student's (projected) and the teacher's embeddings.

    The gradients are in closed form (appendix, equations 1-6). With L the batch sum, P and Q the two softmaxes and I
    the identity: ∂L/∂v = ½ · scale · (P − I + Qᵀ − I) s, and ∂L/∂s the transpose. The student's are differentiated
    again, in its embeddings and its scale; the teacher's are constants. Zero when both pull alike. Unit: squared
    gradient, so it grows with the square of the scales.

    The released code divides by the learnt scale where the temperature belongs; compares the four gradients (of either
    direction, to either modality) one by one, each divided by B, by the mean over B·D; and so needs λ = 1e8 where the
    paper's equation, with no published λ, wants about 1e-4 (``workbench calibrate`` finds one).

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
    """

    name = "gd"
    title = "gradient distillation"
    paper = "CLIP-KD, section 3.2.4; appendix, equations 1-7"
    equation = "mean_k (‖∂Lᵀ/∂vᵀ[k] − ∂Lˢ/∂vˢ[k]‖² + ‖∂Lᵀ/∂sᵀ[k] − ∂Lˢ/∂sˢ[k]‖²), L = B · clip"
    departure = "the release divides logits by the scale; four separate means over B·D, gradients divided by B"
    published_weight: ClassVar[dict[Convention, float]] = {"released": 1e8}

    def translation(self, batch_size: int, width: int) -> float:
        if self.convention == "paper":
            return 1.0
        return (batch_size / REFERENCE_BATCH_SIZE) ** 2 * width / REFERENCE_WIDTH

    def check_weight(self, weight: float) -> None:
        if self.convention == "paper" and weight >= TOO_LARGE_FOR_PAPER:
            raise ValueError(
                f"weight {weight:g} belongs to the released code, whose loss is some 1e11 times smaller: set "
                "convention=released, or find a weight with `workbench calibrate`"
            )

    def __call__(self, comparison: Comparison) -> Tensor:
        scale, teacher_scale = self.scale_of(comparison), comparison.scale(self.teacher_scale)
        if self.convention == "released":
            scale, teacher_scale = 1 / scale, 1 / teacher_scale
        student = comparison.logits(("projected", "image"), ("projected", "text"), scale)
        teacher = comparison.logits(("teacher", "image"), ("teacher", "text"), teacher_scale)
        apart = self.convention == "released"
        with torch.no_grad():
            targets = contrastive_gradients(teacher, apart=apart)
        ours = contrastive_gradients(student, apart=apart)
        differences = [(one - other).square() for one, other in zip(ours, targets, strict=True)]
        if apart:
            return torch.stack([difference.mean() for difference in differences]).sum() / len(student) ** 2
        return torch.stack([difference.sum(1).mean() for difference in differences]).sum()


def contrastive_gradients(logits: Logits, *, apart: bool = False) -> list[Tensor]:
    """The gradients of the contrastive batch sum at its embeddings, [B, D] each, and differentiable again.

    Returns:
        ∂L/∂first and ∂L/∂second, with L half the sum over both directions; or, with ``apart``, the gradients of the
        two directions' sums one by one: ∂L_rows/∂first, ∂L_columns/∂first, ∂L_rows/∂second, ∂L_columns/∂second.
    """
    sums = logits.softmax_weighted_sums(apart=apart)
    matched = [logits.second_BD] * (len(sums) // 2) + [logits.first_BD] * (len(sums) // 2)
    return [logits.scale * (weighted_BD - matched_BD) for weighted_BD, matched_BD in zip(sums, matched, strict=True)]
