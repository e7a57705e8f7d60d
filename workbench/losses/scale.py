"""Scales 1/τ of the logits: fixed, the student's, the teacher's, or a learned parameter of the loss."""

import math
import re

import torch
from torch import Tensor, nn

from workbench.embeddings import MAX_LOG_SCALE
from workbench.errors import unknown
from workbench.losses.declared import SCALES

INITIAL_SCALE = 1 / 0.07  # CLIP's
MULTIPLE = re.compile(r"\s*([0-9.eE+-]+)\s*[x×*]\s*teacher\s*")


class LearnedScale(nn.Module):
    """A learned positive scale of one loss.

    Args:
        initial: its initial value.
        exponential: the scale is exp(parameter), clamped to [1, 100] like CLIP's. Otherwise it is the parameter
            itself, initialized to log(initial) and not clamped, as in CLIP-KD's released code.
    """

    def __init__(self, initial: float = INITIAL_SCALE, exponential: bool = True) -> None:
        super().__init__()
        self.exponential = exponential
        self.logit_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        return self.logit_scale.exp() if self.exponential else self.logit_scale

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp the parameter to its range, after an optimizer step."""
        if self.exponential:
            self.logit_scale.clamp_(0, MAX_LOG_SCALE)


class ScaleChoice:
    """The setting ``scale``: a number, "student" or "teacher" (their learned scales), "own" or "1.5 x teacher".

    Args:
        setting: the value in the recipe.
        initial, exponential: of an own scale, see :class:`LearnedScale`.

    Raises:
        ValueError: an invalid setting.
    """

    def __init__(self, setting: object, initial: float = INITIAL_SCALE, exponential: bool = True) -> None:
        self.initial, self.exponential = initial, exponential
        if isinstance(setting, str):
            self.source, self.factor = _parse(setting)
        elif isinstance(setting, bool) or not isinstance(setting, int | float):
            raise ValueError(f"a scale is a positive number or one of {', '.join(SCALES)} (got {setting!r})")
        else:
            self.source, self.factor = "fixed", float(setting)
        if not 0 < self.factor < math.inf:
            raise ValueError(f"a scale 1/τ is positive: CLIP's are between 1 and 100 (got {setting!r})")

    @property
    def needs_teacher(self) -> bool:
        return self.source == "teacher"

    def learned(self) -> LearnedScale | None:
        """A new parameter for the scale if it is the loss's own, otherwise None."""
        return LearnedScale(self.initial, self.exponential) if self.source == "own" else None

    def value(self, student_scale: Tensor, teacher_scale: Tensor | None, own: nn.Module | None) -> Tensor | float:
        """The scale, positive: 0-d, or a number if fixed. ``own`` is the module from :meth:`learned`."""
        if self.source == "student":
            return student_scale
        if self.source == "fixed":
            return self.factor
        if self.source == "own":
            assert own is not None
            scale: Tensor = own()
            return scale
        assert teacher_scale is not None
        # Unscaled, the very tensor is returned: Comparison caches logits by its identity.
        return teacher_scale if self.factor == 1 else self.factor * teacher_scale


def _parse(setting: str) -> tuple[str, float]:
    """Source and factor of a scale given in words."""
    if setting in SCALES:
        return setting, 1.0
    multiple = MULTIPLE.fullmatch(setting)
    if multiple is None:
        raise unknown("scale", setting, [*SCALES, "1.5 x teacher"])
    try:
        return "teacher", float(multiple[1])
    except ValueError:
        raise ValueError(f"scale = {setting!r}: write it as '1.5 x teacher'") from None
