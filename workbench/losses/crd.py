"""Contrastive relational distillation: match the teacher's softmax over the batch."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, TargetLoss
from workbench.losses.comparison import Comparison


class CrdLoss(TargetLoss):
    """KL divergence from the teacher's image-to-text and text-to-image distributions over the batch to the student's.

    Each model uses its own scale. Unit: nats, mean over the pairs. It is 0 when both distributions are equal, whatever
    the embeddings (a rotated student costs nothing). The paper sums the two directions and the released code averages
    them, so the released weight λ = 1 is 0.5 in the paper's convention.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
    """

    name = "crd"
    title = "contrastive relational distillation"
    paper = "CLIP-KD, section 3.2.1"
    equation = "mean_k KL(pᵀ[k] ‖ pˢ[k]) + KL(qᵀ[k] ‖ qˢ[k])"
    departure = "the release averages the two directions; the paper sums them"
    needs_projection = False
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 0.5, "released": 1.0}

    def __call__(self, comparison: Comparison) -> Tensor:
        student = comparison.logits(("student", "image"), ("student", "text"), self.scale_of(comparison))
        both = self.target(comparison).divergence_of(student)
        return both / 2 if self.convention == "released" else both
