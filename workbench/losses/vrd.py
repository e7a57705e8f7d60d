"""Vertical relational distillation: images of student and teacher, captions of both, and the two alike."""

from typing import ClassVar

from torch import Tensor, nn

from workbench.embeddings import Modality
from workbench.losses.base import Convention, Loss, Widths
from workbench.losses.comparison import Comparison
from workbench.losses.logits import Logits, matched_pairs_loss
from workbench.losses.scale import ScaleChoice


class VrdLoss(Loss):
    """Contrast student with teacher in each modality, and make the images' distributions those of the captions.

    V[k, b] = scale · vˢ[k]·vᵀ[b] compares the images of both models, and S[k, b] their captions. Three terms, each the
    mean of rows (student anchors) and columns (teacher anchors): InfoNCE of V, InfoNCE of S, and the KL divergence from
    the softmax of S, a constant target, to that of V. Uses the projected embeddings. Unit: nats, mean over the pairs.
    Equation and weight are those of CLIP-RD's released code, which gives all three terms one weight.

    Args:
        scale: 1/τ of V and S; by default a parameter of this loss for each.
    """

    name = "vrd"
    title = "vertical relational distillation"
    paper = "CLIP-RD (arXiv 2603.25383), released code"
    equation = "CLIP's loss of V and S + ½ mean_k (KL(σ(S)[k] ‖ σ(V)[k]) + KL(σ(Sᵀ)[k] ‖ σ(Vᵀ)[k])), σ a row softmax"
    departure = "the release multiplies by ln(1/τ) where the paper divides by τ"
    published_weight: ClassVar[dict[Convention, float]] = {"released": 1.0}

    def __init__(self, convention: Convention = "paper", scale: float | str = "own") -> None:
        super().__init__(convention)
        self.scale: ScaleChoice = ScaleChoice(scale, exponential=convention == "paper")

    def learned(self, widths: Widths) -> nn.Module | None:
        del widths
        own = {"image": self.scale.learned(), "text": self.scale.learned()}
        return nn.ModuleDict({modality: scale for modality, scale in own.items() if scale is not None}) or None

    def __call__(self, comparison: Comparison) -> Tensor:
        def of(modality: Modality) -> Logits:
            scale = comparison.scale(self.scale, self.name, modality)
            return comparison.logits(("projected", modality), ("teacher", modality), scale)

        image, text = of("image"), of("text")
        # The captions' logits are trained by their own InfoNCE; as a target they are a constant.
        return matched_pairs_loss(image) + matched_pairs_loss(text) + text.constant().divergence_of(image) / 2
