"""Affinity mimicking: TinyCLIP's L1, with the teacher's softmax over the batch as a soft target."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, MimickingLoss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy


class AffinityLoss(MimickingLoss):
    """Cross-entropy from the teacher's image-to-text and text-to-image affinities to the student's, at a common scale.

    Unit: nats, mean over the pairs. Its minimum is the entropy of the teacher's affinities, reached when the student's
    are equal; it differs from CRD by this constant and by the scale. The paper sums the two directions and the released
    code averages them; both publish weight 1, and it is not known which one produced the paper's tables.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits, 50 in the paper for both. The value fits
            the paper's teacher: "1 x teacher" uses the scale of the teacher at hand. A learned scale starts at 50.
    """

    name = "affinity"
    title = "affinity mimicking"
    paper = "TinyCLIP, equations 3-5 (L1)"
    equation = "mean_k H(A_I2Tᵀ[k], A_I2Tˢ[k]) + H(A_T2Iᵀ[k], A_T2Iˢ[k])"
    departure = "the release averages the two directions; the paper sums them"
    needs_projection = False
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __call__(self, comparison: Comparison) -> Tensor:
        student = comparison.logits(("student", "image"), ("student", "text"), self.scale_of(comparison))
        both = cross_entropy(self.target(comparison), student)
        return both / 2 if self.convention == "released" else both
