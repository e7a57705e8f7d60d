"""Augmented feature distillation: contrastive loss on fused student and teacher embeddings."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from workbench.losses.base import Convention, Loss, Widths
from workbench.losses.comparison import Comparison
from workbench.losses.logits import Logits, matched_pairs_loss
from workbench.losses.scale import LearnedScale, ScaleChoice


class Fusion(nn.Module):
    """A linear map per modality from [student ‖ teacher] to the student's width, and the loss's scale, if learned."""

    def __init__(self, widths: Widths, scale: LearnedScale | None) -> None:
        super().__init__()
        joint = widths.student + (widths.teacher or 0)
        self.image = nn.Linear(joint, widths.student)
        self.text = nn.Linear(joint, widths.student)
        self.scale = scale

    def forward(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """The fused embeddings of images and captions, unit length, [B, student width] each."""
        student, teacher = comparison.student, comparison.embeddings("teacher")
        image_BD = _fused(self.image, student.image_BD, teacher.image_BD)
        text_BD = _fused(self.text, student.text_BD, teacher.text_BD)
        return F.normalize(image_BD, dim=1), F.normalize(text_BD, dim=1)


def _fused(linear: nn.Linear, student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """W[student ‖ teacher] + b without concatenation: two products, so that the teacher's part gets no gradient."""
    width = student_BD.shape[1]
    of_teacher_BD = F.linear(teacher_BD, linear.weight[:, width:], linear.bias)
    return F.linear(student_BD, linear.weight[:, :width]) + of_teacher_BD


class AfdLoss(Loss):
    """CLIP's loss on linear fusions of the student's own unit embeddings with the teacher's.

    Unit: nats; it is 0 when every fused pair is matched with certainty. The fusion can rely on the teacher alone, so a
    small value does not imply a good student. The released code does not exponentiate its scale parameter, and fails
    where the widths differ.

    Args:
        scale: 1/τ; by default a parameter of this loss.
    """

    name = "afd"
    title = "augmented feature distillation"
    paper = "CLIP-KD, section 3.2.6"
    equation = "½ (mean_k −log softmax_b(vᶠ[k]·sᶠ[b]/τ)[k] + its transpose), vᶠ = unit(W[vˢ ‖ vᵀ] + b)"
    departure = "the release multiplies by ln(1/τ) where the paper divides by τ; it needs equal widths"
    needs_projection = False
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(self, convention: Convention = "paper", scale: float | str = "own") -> None:
        super().__init__(convention)
        self.own_scale = ScaleChoice(scale, exponential=convention == "paper")

    def learned(self, widths: Widths) -> Fusion:
        return Fusion(widths, self.own_scale.learned())

    def __call__(self, comparison: Comparison) -> Tensor:
        fusion = comparison.parts[self.name]
        assert isinstance(fusion, Fusion)
        image_BD, text_BD = fusion(comparison)
        teacher = comparison.embeddings("teacher")
        scale = self.own_scale.value(comparison.student.scale, teacher.scale, fusion.scale)
        return matched_pairs_loss(Logits(image_BD, text_BD, scale, comparison.chunk_size))
