"""What is trained beside the student for the losses' sake: projections to the teacher's width, and scales.

These live in the train state: one place to optimise, clip, save and resume them.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.embeddings import MAX_LOG_SCALE, Embeddings
from workbench.losses.base import Loss

INITIAL_LOG_SCALE = math.log(1 / 0.07)  # CLIP's τ = 0.07


class LearntScale(nn.Module):
    """A loss's own positive scale.

    Args:
        exponential: the scale is exp(parameter), clamped to [1, 100] as CLIP's; otherwise the parameter itself,
            unclamped, which is what CLIP-KD's released code does.
    """

    def __init__(self, exponential: bool = True) -> None:
        super().__init__()
        self.exponential = exponential
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self) -> Tensor:
        return self.logit_scale.exp() if self.exponential else self.logit_scale

    @torch.no_grad()
    def clamp_(self) -> None:
        """Return the parameter to its range after an optimiser step."""
        if self.exponential:
            self.logit_scale.clamp_(0, MAX_LOG_SCALE)


class LearntParts(nn.Module):
    """Everything the losses of one run train: a projection per modality where the widths differ, and each loss's parts.

    Args:
        losses: the losses in use, by name.
        student_width, teacher_width: embedding widths; without a teacher ``teacher_width`` is None.
    """

    def __init__(self, losses: Mapping[str, Loss], student_width: int, teacher_width: int | None) -> None:
        super().__init__()
        distils = any(loss.needs_teacher for loss in losses.values())
        needs_projection = distils and teacher_width not in (None, student_width)
        widths = (student_width, teacher_width or student_width)
        self.projections = nn.ModuleDict(
            {side: nn.Linear(*widths) for side in ("image", "text")} if needs_projection else {}
        )
        parts = {name: loss.learnt() for name, loss in losses.items()}
        self._parts = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What single losses learn, by loss name."""
        return dict(self._parts.items())

    def project(self, image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Embeddings | None:
        """Raw (not normalised) student embeddings at the teacher's width, unit length; None without projections."""
        if not self.projections:
            return None
        image, text = self.projections["image"](image_BD), self.projections["text"](text_BD)
        return Embeddings(F.normalize(image, dim=1), F.normalize(text, dim=1), scale)

    def clamp_(self) -> None:
        """Return every learnt scale to its range after an optimiser step."""
        for part in self.parts.values():
            if isinstance(part, LearntScale):
                part.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """The losses' own scales by loss name, 0-d, detached."""
        return {name: part().detach() for name, part in self.parts.items() if isinstance(part, LearntScale)}
