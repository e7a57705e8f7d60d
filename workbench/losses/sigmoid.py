"""SigLIP's sigmoid loss: every image-caption pair of the batch is a binary classification; needs no teacher."""

from typing import ClassVar

from torch import Tensor

from workbench.embeddings import SIGMOID_SCALE
from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison
from workbench.losses.scale import ScaleChoice


class SigmoidLoss(Loss):
    """Sigmoid loss between the student's images and captions: each pair is matched or not, independent of the others.

    Unit: nats, summed over the B candidates of an image and averaged over images. With cosines of 0 and the initial
    scale 10 and bias −10 it is about 10: almost all pairs are negatives, and the bias starts where they are right. A
    student without a bias is given both initial values at the start, a student with one (SigLIP's) keeps its own.
    Paper and released code (big_vision, open_clip) agree.

    Args:
        scale: 1/τ, the paper's t; the student's learned one by default.
        bias: the paper's b: "student" for its learned one, or a number.
    """

    name = "sigmoid"
    title = "sigmoid task loss"
    paper = "SigLIP (arXiv 2303.15343), section 3.2"
    equation = "−mean_k Σ_b log σ(z[k,b] (v[k]·s[b]/τ + bias)), z = 1 for k = b, else −1"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}
    needs_teacher = False
    needs_projection = False

    def __init__(
        self, convention: Convention = "paper", scale: float | str = "student", bias: float | str = "student"
    ) -> None:
        super().__init__(convention)
        self.scale = ScaleChoice(scale, initial=SIGMOID_SCALE)
        self.needs_teacher = self.scale.needs_teacher
        if bias != "student" and (isinstance(bias, bool | str) or not isinstance(bias, int | float)):
            raise ValueError(f"bias is a number, or 'student' for the student's learned one (got {bias!r})")
        self.bias = bias
        self.needs_bias = bias == "student"

    def __call__(self, comparison: Comparison) -> Tensor:
        bias = comparison.student.bias if isinstance(self.bias, str) else float(self.bias)
        if bias is None:
            raise ValueError("the sigmoid loss needs the student's bias: Embeddings(..., bias=), or a number as bias")
        logits = comparison.logits(("student", "image"), ("student", "text"), self.scale_of(comparison))
        return logits.sigmoid_loss(bias)
