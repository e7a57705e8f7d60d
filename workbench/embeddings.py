"""The words that data, models, losses and evaluation share.

Shape letters, everywhere in this project:
    B  pairs in a batch          D  embedding width           L  tokens of a text
    N  items (pictures)          M  captions                  K  classes
    C  colour channels           H, W  pixels                 T  tokens of a tower
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

MAX_LOG_SCALE = math.log(100)  # CLIP clamps every learnt scale to 1 ≤ 1/τ ≤ 100

Side = Literal["student", "teacher", "projected"]


@dataclass(frozen=True)
class InputForm:
    """What a model wants to be fed: square pictures of ``image_size`` pixels, and token ids."""

    image_size: int
    tokenize: Callable[[Sequence[str]], Tensor]  # B captions -> int64 [B, L]
    tokenizer_id: str  # equal ids give equal tokens, so that one tokenization can serve both models


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
    view: int = 0  # which of its views every pair shows: equal (key, view) are equal pictures and captions

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> "Batch":
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
        )


@dataclass(frozen=True)
class Embeddings:
    """One model's view of B pairs: unit-length float rows, and its positive scale (1/temperature, 0-d)."""

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor

    @property
    def width(self) -> int:
        return self.image_BD.shape[1]

    def __len__(self) -> int:
        return self.image_BD.shape[0]


@dataclass(frozen=True)
class Comparison:
    """A student beside its teacher on one batch: all that a loss may see.

    ``projected`` is the student at the teacher's width: its embeddings through the learnt projections where the widths
    differ, and the student itself where they do not. ``parts`` holds what single losses learn, by loss name.
    Cosines are computed once, however many losses use them.
    """

    student: Embeddings
    teacher: Embeddings | None
    projected: Embeddings
    parts: Mapping[str, nn.Module] = field(default_factory=dict)
    _cosines: dict[tuple[Side, Side], Tensor] = field(default_factory=dict, repr=False)

    def embeddings(self, side: Side) -> Embeddings:
        """The embeddings of one side.

        Raises:
            ValueError: the teacher is asked for and there is none.
        """
        if side == "student":
            return self.student
        if side == "projected":
            return self.projected
        if self.teacher is None:
            raise ValueError("this loss compares with a teacher: name one with --set teacher.model=SPEC")
        return self.teacher

    def cosines_BB(self, image: Side, text: Side) -> Tensor:
        """Cosines of one side's pictures (rows) with one side's texts (columns), [B, B]."""
        if (image, text) not in self._cosines:
            self._cosines[image, text] = self.embeddings(image).image_BD @ self.embeddings(text).text_BD.T
        return self._cosines[image, text]
