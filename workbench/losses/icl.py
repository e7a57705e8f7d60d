"""Interactive contrastive learning: contrast the student's embeddings with the teacher's other modality."""

from typing import ClassVar

from torch import Tensor

from workbench.embeddings import Modality
from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison
from workbench.losses.declared import check_candidates
from workbench.losses.logits import matched_pairs_loss
from workbench.losses.scale import ScaleChoice


class IclLoss(Loss):
    """Contrastive loss of student images with teacher captions and of student captions with teacher images, averaged.

    Uses the projected embeddings. Unit: nats; it is 0 when every student embedding picks its own counterpart with
    certainty. log(B−1) minus the loss of one direction is a lower bound on the mutual information between student and
    teacher (appendix, equations 8-23), which is measured on held-out pairs at every evaluation. The released code does
    not exponentiate its scale parameter, so its scale starts at 2.66 instead of 14.3.

    With ``candidates`` = "all" the softmax is over the teacher's embeddings of every training pair, whatever the batch
    size. Candidates that are known to match an anchor (the same caption, or the same image by the data's groups) are
    no negatives and left out, except its own.

    Args:
        scale: 1/τ; by default a parameter of this loss.
        candidates: "batch", as in the paper, or "all", which reads the teacher's cache.
    """

    name = "icl"
    title = "interactive contrastive learning"
    paper = "CLIP-KD, section 3.2.5"
    equation = "½ (mean_k −log softmax_b(vˢ[k]·sᵀ[b]/τ)[k] + mean_k −log softmax_b(sˢ[k]·vᵀ[b]/τ)[k])"
    departure = "the release multiplies by ln(1/τ) where the paper divides by τ"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}

    def __init__(self, convention: Convention = "paper", scale: float | str = "own", candidates: str = "batch") -> None:
        super().__init__(convention)
        check_candidates(candidates)
        self.candidates = candidates
        self.scale: ScaleChoice = ScaleChoice(scale, exponential=convention == "paper")

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = self.scale_of(comparison)

        def of(anchor: Modality, other: Modality) -> Tensor:
            logits = comparison.logits(("projected", anchor), ("teacher", other), scale)
            if self.candidates == "batch":
                return matched_pairs_loss(logits, both_ways=False)
            return comparison.candidates.info_nce(logits.first_BD, logits.second_BD, scale, other)

        return (of("image", "text") + of("text", "image")) / 2
