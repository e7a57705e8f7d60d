"""Base classes of losses whose target is the teacher's logits."""

from typing import ClassVar

from workbench.losses.base import Convention, Loss
from workbench.losses.comparison import Comparison, Modality
from workbench.losses.logits import Logits
from workbench.losses.scale import INITIAL_SCALE, ScaleChoice, teacher_scale_choice

TINYCLIP_SCALE = 50.0  # 1/τ of both models, TinyCLIP's Table 8


class TargetLoss(Loss):
    """Compares the student's logits with the teacher's, each at its own learned scale (CLIP-KD).

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
        """The teacher's logits, [B, B]."""
        return comparison.logits(("teacher", rows), ("teacher", columns), comparison.scale(self.teacher_scale))


class MimickingLoss(TargetLoss):
    """Compares both models at the fixed scale 50 (TinyCLIP); a learned scale starts there.

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
