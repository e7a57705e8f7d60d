"""Cross-modal affinity interaction: TinyCLIP's L2 and L3, one modality from the student and one from the teacher."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, MimickingLoss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy


class CrossModalLoss(MimickingLoss):
    """Affinities of student images with teacher captions (L2) plus those of teacher images with student captions (L3).

    The target of each is the teacher's own affinity matrix; both directions are averaged. Unit: nats, mean over the
    pairs. Its minimum is twice the entropy of the teacher's affinities (averaged over directions), reached when the
    student's (projected) embeddings are the teacher's. TinyCLIP's supplement gives no formula: this is our reading, and
    there is no released code to differ from.

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
