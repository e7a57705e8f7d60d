"""Gradient distillation: match the gradients of the contrastive loss at the embeddings."""

from typing import ClassVar

import torch
from torch import Tensor

from workbench.losses.base import REFERENCE_BATCH_SIZE, REFERENCE_WIDTH, Convention, TargetLoss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import Logits

TOO_LARGE_FOR_PAPER = 1e4  # a weight from here on was meant for the released code


class GdLoss(TargetLoss):
    """Squared distance between the gradients of CLIP's loss at the student's (projected) and the teacher's embeddings.

    The gradients have a closed form (appendix, equations 1-6). With L the sum over the batch, P and Q the row and
    column softmax and I the identity: ∂L/∂v = ½ · scale · (P − I + Qᵀ − I) s, and ∂L/∂s by transposition. The student's
    gradient is differentiated again with respect to its embeddings and scale; the teacher's is a constant. Unit:
    squared gradient, so the loss grows with the square of the scales. It is 0 when both gradients are equal.

    The released code divides the logits by the learned scale instead of the temperature. It compares the four gradients
    (each direction, with respect to each modality) separately, each divided by B, and averages over B·D. It therefore
    needs λ = 1e8, where the paper's equation, which has no published λ, needs about 1e-4 (``workbench calibrate``
    finds one).

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
        # Its gradients carry 1/B and its mean 1/D: both grow with the run's batch and width.
        return (batch_size / REFERENCE_BATCH_SIZE) ** 2 * width / REFERENCE_WIDTH

    def check_weight(self, weight: float) -> None:
        if self.convention == "paper" and weight >= TOO_LARGE_FOR_PAPER:
            raise ValueError(
                f"weight {weight:g} belongs to the released code, whose loss is about 1e11 times smaller: set "
                "convention=released, or find a weight with `workbench calibrate`"
            )

    def __call__(self, comparison: Comparison) -> Tensor:
        scale, teacher_scale = self.scale_of(comparison), comparison.scale(self.teacher_scale)
        if self.convention == "released":
            scale, teacher_scale = 1 / scale, 1 / teacher_scale
        student = comparison.logits(("projected", "image"), ("projected", "text"), scale)
        teacher = comparison.logits(("teacher", "image"), ("teacher", "text"), teacher_scale)
        per_direction = self.convention == "released"
        with torch.no_grad():  # the teacher's gradients are the target
            targets = contrastive_gradients(teacher, per_direction=per_direction)
        gradients = contrastive_gradients(student, per_direction=per_direction)
        differences = [(one - other).square() for one, other in zip(gradients, targets, strict=True)]
        if per_direction:
            # The release divides each gradient by B, hence B² once squared.
            return torch.stack([difference.mean() for difference in differences]).sum() / len(student) ** 2
        return torch.stack([difference.sum(1).mean() for difference in differences]).sum()


def contrastive_gradients(logits: Logits, *, per_direction: bool = False) -> list[Tensor]:
    """The gradients of the contrastive loss, summed over the batch, at its embeddings: [B, D] each, differentiable.

    Returns:
        ∂L/∂first and ∂L/∂second, with L the mean of the two directions. With ``per_direction``, the gradients of each
        direction's sum: ∂L_rows/∂first, ∂L_columns/∂first, ∂L_rows/∂second, ∂L_columns/∂second.
    """
    # ∂ logsumexp(row k)/∂first[k] is the softmax-weighted sum of ``second``; the diagonal contributes −second[k].
    sums = logits.softmax_weighted_sums(per_direction=per_direction)
    matched = [logits.second_BD] * (len(sums) // 2) + [logits.first_BD] * (len(sums) // 2)
    return [logits.scale * (weighted_BD - matched_BD) for weighted_BD, matched_BD in zip(sums, matched, strict=True)]
