"""Cross-modal affinity interaction: TinyCLIP's L2 and L3, the student's one modality against the teacher's other."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy
from workbench.losses.targets import MimickingLoss


class CrossModalLoss(MimickingLoss):
    """The student's pictures with the teacher's texts (L2), and its texts with the teacher's pictures (L3), added.

    Each mixed affinity has the teacher's own as its target, both directions averaged. In nats, mean over anchors; at
    its least it is the entropy of the teacher's affinities (averaged over directions, twice), when the student's
    (projected) embeddings are the teacher's. TinyCLIP's supplement names the modes without formulas: this is our
    reading, and there is no released code to depart from.

    Args:
        scale, teacher_scale: 1/τ of the mixed and of the teacher's logits.
    """

    name = "cross_modal"
    title = "cross-modal affinity interaction"
    paper = "TinyCLIP, supplement, Table 10 (L2 + L3), our reading"
    equation = "½ mean_k [H(A_I2Tᵀ, softmax vˢ·sᵀ/τ) + H(A_T2Iᵀ, softmax sᵀ·vˢ/τ)] + the same with roles swapped"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __call__(self, comparison: Comparison) -> Tensor:
        scale, teacher = self.scale_of(comparison), self.target(comparison)
        by_student_images = comparison.logits(("projected", "image"), ("teacher", "text"), scale)
        by_student_texts = comparison.logits(("teacher", "image"), ("projected", "text"), scale)
        return (cross_entropy(teacher, by_student_images) + cross_entropy(teacher, by_student_texts)) / 2
