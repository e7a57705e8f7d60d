"""Cross relational distillation: image-to-text and text-to-image relations between student and teacher agree."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison
from workbench.losses.scale import ScaleChoice


class XrdLoss(Loss):
    """KL divergence between the two cross-modal similarities of student and teacher, each the other's target.

    A[k, b] = scale · vˢ[k]·sᵀ[b] compares student images with teacher captions, and C[k, b] = scale · sˢ[k]·vᵀ[b]
    student captions with teacher images. The loss is the mean of four divergences: rows and columns, from C to A and
    from A to C, with constant targets. Uses the projected embeddings. Unit: nats, mean over the pairs. It is 0 when A
    equals C, and nothing in it says which pairs match: it belongs next to ICL, as in CLIP-RD. Equation and weight are
    those of the released code, where A and C have ICL's learned scale; one of its own would shrink until both are
    uniform.

    Args:
        scale: 1/τ of A and C; the student's learned one by default.
    """

    name = "xrd"
    title = "cross relational distillation"
    paper = "CLIP-RD (arXiv 2603.25383), released code"
    equation = "¼ mean_k (KL(σ(C)[k] ‖ σ(A)[k]) + KL(σ(A)[k] ‖ σ(C)[k])) + the same for columns, σ a row softmax"
    published_weight: ClassVar[dict[Convention, float]] = {"released": 1.0}

    def __init__(self, convention: Convention = "paper", scale: float | str = "student") -> None:
        super().__init__(convention)
        self.scale: ScaleChoice = ScaleChoice(scale)

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = self.scale_of(comparison)
        by_images = comparison.logits(("projected", "image"), ("teacher", "text"), scale)
        by_texts = comparison.logits(("projected", "text"), ("teacher", "image"), scale)
        to_images = by_texts.constant().divergence_of(by_images)
        return (to_images + by_images.constant().divergence_of(by_texts)) / 4
