"""The words that data, models, losses and evaluation share.

Shape letters, everywhere in this project:
    B  pairs in a batch          D  embedding width           L  tokens of a text
    N  items (pictures)          M  captions                  K  classes
    C  colour channels           H, W  pixels                 T  tokens of a tower
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_LOG_SCALE = math.log(100)  # CLIP clamps every learnt scale to 1 ≤ 1/τ ≤ 100


@dataclass(frozen=True)
class InputSpec:
    """What a model wants to be fed: square pictures of ``image_size`` pixels, and token ids."""

    image_size: int
    tokenize: Callable[[Sequence[str]], Tensor]  # B captions -> int64 [B, L]
    tokenizer_id: str  # equal ids give equal tokens, so that one tokenization can serve both models


class BadImage(NamedTuple):
    """A picture that could not be used and whose place another pair took: why, and a line that names it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Batch:
    """One batch, in the student's and in the teacher's form (the same tensors where the forms agree).

    Pictures are uint8 in [0, 255]; each model normalises its own. Texts are int64 token ids.
    """

    keys: tuple[str, ...]
    student_image_BCHW: Tensor
    student_text_BL: Tensor
    teacher_image_BCHW: Tensor | None = None
    teacher_text_BL: Tensor | None = None
    indices: tuple[int, ...] = ()  # of the pairs in their data set
    views: tuple[int, ...] = ()  # which of its views each pair shows: equal (key, view) are equal pictures and captions
    kept_BK: Tensor | None = None  # int64: the patches of each picture that the student sees; None for all
    replaced: tuple[BadImage, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``; tensors that the models share stay shared."""
        moved: dict[int, Tensor] = {}

        def move(tensor: Tensor | None) -> Tensor | None:
            if tensor is not None and id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device, non_blocking=True)
            return None if tensor is None else moved[id(tensor)]

        student_image, student_text = move(self.student_image_BCHW), move(self.student_text_BL)
        assert student_image is not None and student_text is not None
        return replace(
            self,
            student_image_BCHW=student_image,
            student_text_BL=student_text,
            teacher_image_BCHW=move(self.teacher_image_BCHW),
            teacher_text_BL=move(self.teacher_text_BL),
            kept_BK=move(self.kept_BK),
        )


class FeatureKey(NamedTuple):
    """Which inner feature of an image tower: the block's number (negative from the end) and map, tokens or pooled."""

    block: int
    form: str


@dataclass(frozen=True)
class Embeddings:
    """One model's view of B pairs: unit-length float rows, and its positive scale (1/temperature, 0-d)."""

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor

    @classmethod
    def from_raw(cls, image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Embeddings:
        """From rows of any length."""
        import torch.nn.functional as F

        return cls(F.normalize(image_BD, dim=1), F.normalize(text_BD, dim=1), scale)

    @property
    def width(self) -> int:
        return self.image_BD.shape[1]

    def __len__(self) -> int:
        return self.image_BD.shape[0]
