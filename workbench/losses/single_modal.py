"""Single-modal affinity interaction: TinyCLIP's L4 and L5, image-to-image and text-to-text affinities."""

from typing import ClassVar

from torch import Tensor

from workbench.embeddings import Modality
from workbench.losses.base import TINYCLIP_SCALE, Convention, MimickingLoss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy


class SingleModalLoss(MimickingLoss):
    """Cross-entropy from the teacher's image-to-image affinities to the student's (L4), plus that of captions (L5).

    Unit: nats, mean over the pairs, on the student's own embeddings. Its minimum is the entropy of the teacher's
    affinities. Every item is its own nearest neighbor: at 1/τ = 50 the diagonal dominates the softmax, and for
    unrelated embeddings nothing else is left in float32. TinyCLIP's supplement gives no formula: this is our reading,
    and there is no released code to differ from.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
        keep_diagonal: False excludes every item from its own softmax.
    """

    name = "single_modal"
    title = "single-modal affinity interaction"
    paper = "TinyCLIP, supplement, Table 10 (L4 + L5), our reading"
    equation = "mean_k H(softmax vᵀ·vᵀ/τ, softmax vˢ·vˢ/τ) + the same for texts"
    needs_projection = False
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = TINYCLIP_SCALE,
        teacher_scale: float | str = TINYCLIP_SCALE,
        keep_diagonal: bool = True,
    ) -> None:
        super().__init__(convention, scale, teacher_scale)
        self.keep_diagonal = keep_diagonal

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = self.scale_of(comparison)

        def of(modality: Modality) -> Tensor:
            student = comparison.logits(("student", modality), ("student", modality), scale)
            teacher = self.target(comparison, modality, modality)
            if not self.keep_diagonal:
                student, teacher = student.without_diagonal(), teacher.without_diagonal()
            return cross_entropy(teacher, student, both_ways=False)

        return of("image") + of("text")
