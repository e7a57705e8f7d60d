"""Interactive contrastive learning: the student's embeddings against the teacher's other modality."""

from typing import ClassVar

from torch import Tensor, nn

from workbench.embeddings import Comparison
from workbench.losses.base import Convention, Loss
from workbench.losses.contrastive import matched_pairs_cross_entropy
from workbench.losses.learnt import LearntScale


class IclLoss(Loss):
    """The student's pictures pick among the teacher's texts and its texts among the teacher's pictures, averaged.

    In nats, on the projected embeddings, at a learnt scale of its own. log(B−1) minus a direction's loss bounds the
    mutual information of student and teacher from below (appendix, equations 8-23). The released code never takes the
    exponential of its scale parameter, so it starts at 2.66 where the paper's starts at 14.3.
    """

    name = "icl"
    title = "interactive contrastive learning"
    paper = "CLIP-KD, section 3.2.5"
    equation = "½ (mean_k −log softmax_b(vˢ[k]·sᵀ[b]/τ)[k] + mean_k −log softmax_b(sˢ[k]·vᵀ[b]/τ)[k])"
    departure = "the release multiplies by ln(1/τ) where the paper divides by τ"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def learnt(self) -> nn.Module:
        return LearntScale(exponential=self.convention == "paper")

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = comparison.parts[self.name]()
        image_to_text_BB = scale * comparison.cosines_BB("projected", "teacher")
        text_to_image_BB = scale * comparison.cosines_BB("teacher", "projected").T
        return (matched_pairs_cross_entropy(image_to_text_BB) + matched_pairs_cross_entropy(text_to_image_BB)) / 2
