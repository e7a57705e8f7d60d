"""Losses that have the teacher's logits as their target, each side at a scale of its own."""

from typing import ClassVar

from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison, Modality
from workbench.losses.logits import Logits
from workbench.losses.scale import INITIAL_SCALE, ScaleChoice, teacher_scale_choice

TINYCLIP_SCALE = 50.0  # 1/τ of both models, TinyCLIP's Table 8


class TargetLoss(Loss):
    """CLIP-KD's: each model at its learnt scale.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
    """

    own_scale_starts_at: ClassVar[float] = INITIAL_SCALE

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = "student",
        teacher_scale: float | str = "teacher",
    ) -> None:
        super().__init__(convention)
        self.scale = ScaleChoice(scale, initial=self.own_scale_starts_at)
        self.teacher_scale = teacher_scale_choice(teacher_scale)

    def target(self, comparison: Comparison, rows: Modality = "image", columns: Modality = "text") -> Logits:
        """The teacher's logits."""
        return comparison.logits(("teacher", rows), ("teacher", columns), comparison.scale(self.teacher_scale))


class MimickingLoss(TargetLoss):
    """TinyCLIP's: both models at 50, where an own scale starts too.

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
    """

    own_scale_starts_at: ClassVar[float] = TINYCLIP_SCALE

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = TINYCLIP_SCALE,
        teacher_scale: float | str = TINYCLIP_SCALE,
    ) -> None:
        super().__init__(convention, scale, teacher_scale)
