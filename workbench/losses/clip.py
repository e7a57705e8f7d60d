"""CLIP's contrastive loss between the student's image and text embeddings; needs no teacher."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison
from workbench.losses.logits import matched_pairs_loss
from workbench.losses.scale import ScaleChoice


class ClipLoss(Loss):
    """Contrastive loss between the student's images and captions, averaged over both directions.

    Unit: nats. It is log B when all pairs look alike and 0 when every image picks its own caption with certainty, and
    the reverse. Paper and released code agree. TinyCLIP's ``--logit-scale 50`` is ``scale = 50``.

    Args:
        scale: 1/τ; the student's learned one by default (:class:`~workbench.losses.scale.ScaleChoice`).
    """

    name = "clip"
    title = "contrastive task loss"
    paper = "CLIP-KD, section 3.1; TinyCLIP's L0"
    equation = "½ (mean_k −log p[k,k] + mean_k −log q[k,k])"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}
    needs_teacher = False
    needs_projection = False

    def __init__(self, convention: Convention = "paper", scale: float | str = "student") -> None:
        super().__init__(convention)
        self.scale = ScaleChoice(scale)
        self.needs_teacher = self.scale.needs_teacher

    def __call__(self, comparison: Comparison) -> Tensor:
        scale = self.scale_of(comparison)
        return matched_pairs_loss(comparison.logits(("student", "image"), ("student", "text"), scale))
