"""Feature distillation: squared distance between the student's and the teacher's embeddings."""

from typing import ClassVar

from torch import Tensor

from workbench.losses.base import REFERENCE_WIDTH, Convention, Loss
from workbench.losses.comparison import Comparison, Side


class FdLoss(Loss):
    """Squared distance between the student's (projected) and the teacher's unit embeddings, summed over image and text.

    Unit: squared distance on the unit sphere. It is 0 when the embeddings are equal, and 4 for unrelated ones (2 per
    modality). The paper sums over the D channels and the released code averages over them, so the released weight
    λ = 2000 at D = 512 is 3.9 in the paper's convention.
    """

    name = "fd"
    title = "feature distillation"
    paper = "CLIP-KD, section 3.2.2"
    equation = "mean_k (‖vᵀ−vˢ‖² + ‖sᵀ−sˢ‖²)"
    departure = "the release divides by D: it averages over channels where the paper sums"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 2000 / REFERENCE_WIDTH, "released": 2000.0}
    side: ClassVar[Side] = "projected"

    def translation(self, batch_size: int, width: int) -> float:
        del batch_size
        return width / REFERENCE_WIDTH if self.convention == "released" else 1.0

    def __call__(self, comparison: Comparison) -> Tensor:
        student, teacher = comparison.embeddings(self.side), comparison.embeddings("teacher")
        image_BD = (student.image_BD - teacher.image_BD).square()
        text_BD = (student.text_BD - teacher.text_BD).square()
        if self.convention == "released":
            return image_BD.mean() + text_BD.mean()
        return image_BD.sum(1).mean() + text_BD.sum(1).mean()
