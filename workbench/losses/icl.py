"""Interactive contrastive learning: contrast the student's embeddings with the teacher's other modality."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import matched_pairs_loss
from workbench.losses.scale import ScaleChoice


class IclLoss(Loss):
    """Contrastive loss of student images with teacher captions and of student captions with teacher images, averaged.

    Uses the projected embeddings. Unit: nats; it is 0 when every student embedding picks its own counterpart with
    certainty. log(B−1) minus the loss of one direction is a lower bound on the mutual information between student and
    teacher (appendix, equations 8-23), which is measured on held-out pairs at every evaluation. The released code does
    not exponentiate its scale parameter, so its scale starts at 2.66 instead of 14.3.

    Args:
        scale: 1/τ; by default a parameter of this loss.
    """

    name = "icl"
    title = "interactive contrastive learning"
    paper = "CLIP-KD, section 3.2.5"
    equation = "½ (mean_k −log softmax_b(vˢ[k]·sᵀ[b]/τ)[k] + mean_k −log softmax_b(sˢ[k]·vᵀ[b]/τ)[k])"
    departure = "the release multiplies by ln(1/τ) where the paper divides by τ"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(self, convention: Convention = "paper", scale: float | str = "own") -> None:
        super().__init__(convention)
        self.scale: ScaleChoice = ScaleChoice(scale, exponential=convention == "paper")

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = self.scale_of(comparison)
        by_images = comparison.logits(("projected", "image"), ("teacher", "text"), scale)
        by_texts = comparison.logits(("projected", "text"), ("teacher", "image"), scale)
        return (matched_pairs_loss(by_images, both_ways=False) + matched_pairs_loss(by_texts, both_ways=False)) / 2
