"""Cross-modal affinity interaction: TinyCLIP's L2 and L3, one modality from the student and one from the teacher."""

from typing import ClassVar

from torch import Tensor

from workbench.embeddings import Modality
from workbench.losses.base import TINYCLIP_SCALE, Convention, MimickingLoss
from workbench.losses.comparison import Comparison
from workbench.losses.declared import check_candidates
from workbench.losses.logits import Logits, cross_entropy


class CrossModalLoss(MimickingLoss):
    """Affinities of student images with teacher captions (L2) plus those of teacher images with student captions (L3).

    The target of each is the teacher's own affinity matrix; both directions are averaged. Unit: nats, mean over the
    pairs. Its minimum is twice the entropy of the teacher's affinities (averaged over directions), reached when the
    student's (projected) embeddings are the teacher's. TinyCLIP's supplement gives no formula: this is our reading, and
    there is no released code to differ from.

    With ``candidates`` = "all" the softmaxes over teacher embeddings, and their targets, are over every training pair.
    Those over student embeddings stay within the batch, since the others' are not known.

    Args:
        scale, teacher_scale: 1/τ of the mixed and of the teacher's logits.
        candidates: "batch", or "all", which reads the teacher's cache.
    """

    name = "cross_modal"
    title = "cross-modal affinity interaction"
    paper = "TinyCLIP, supplement, Table 10 (L2 + L3), our reading"
    equation = "½ mean_k [H(A_I2Tᵀ, softmax vˢ·sᵀ/τ) + H(A_T2Iᵀ, softmax sᵀ·vˢ/τ)] + the same with roles swapped"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = TINYCLIP_SCALE,
        teacher_scale: float | str = TINYCLIP_SCALE,
        candidates: str = "batch",
    ) -> None:
        super().__init__(convention, scale, teacher_scale)
        check_candidates(candidates)
        self.candidates = candidates

    def __call__(self, comparison: Comparison) -> Tensor:
        scale, teacher = self.scale_of(comparison), self.target(comparison)
        if self.candidates == "all":
            image, text = (self._among_all(comparison, *pair) for pair in (("image", "text"), ("text", "image")))
            return (image + text) / 2
        by_student_images = comparison.logits(("projected", "image"), ("teacher", "text"), scale)
        by_student_texts = comparison.logits(("teacher", "image"), ("projected", "text"), scale)
        return (cross_entropy(teacher, by_student_images) + cross_entropy(teacher, by_student_texts)) / 2

    def _among_all(self, comparison: Comparison, anchor: Modality, other: Modality) -> Tensor:
        """Student anchors among all of the teacher's candidates; teacher anchors among the student's in the batch."""
        scale, target = self.scale_of(comparison), self.target(comparison, anchor, other)
        assert isinstance(target, Logits), "check_candidates refuses several softmaxes"
        student = comparison.logits(("projected", anchor), ("teacher", other), scale)
        among_all = comparison.candidates.cross_entropy(
            (target.first_BD, target.scale), (student.first_BD, student.scale), other
        )
        in_batch = comparison.logits(("teacher", anchor), ("projected", other), scale)
        return among_all + cross_entropy(target, in_batch, both_ways=False)
