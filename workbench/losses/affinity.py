"""Affinity mimicking: TinyCLIP's L1, the teacher's softmax over the batch as a soft target."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention
from workbench.losses.comparison import Comparison
from workbench.losses.logits import cross_entropy
from workbench.losses.targets import MimickingLoss


class AffinityLoss(MimickingLoss):
    """Cross-entropy from the teacher's picture-to-text and text-to-picture affinities to the student's, at one scale.

    In nats, mean over anchors. At its least it is the entropy of the teacher's affinities, when both see the same
    relations. It is CRD up to that constant and the scale. The paper adds the two directions, the released code
    averages them; both say weight 1, and which of the two made the paper's tables is not said.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits, 50 in the paper for both. It belongs to
            the paper's teacher: "1 x teacher" gives it in multiples of the one at hand. An own scale starts at 50.
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
