"""A student beside its teacher on one batch: all that a loss may see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from workbench.embeddings import Embeddings
from workbench.losses.logits import Logits
from workbench.losses.scale import ScaleChoice

Side = Literal["student", "teacher", "projected", "masked"]
Modality = Literal["image", "text"]
Row = tuple[Side, Modality]


@dataclass(frozen=True)
class Features:
    """Inner features of the image towers, matched one to one: maps [B, C, H, W], or pooled [B, C]."""

    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """A student beside its teacher on one batch. What is computed from it is computed once, however many losses use it.

    Args:
        student: its own embeddings.
        projected: the student at the teacher's width: its embeddings through the learnt projections where the widths
            differ, and ``student`` itself where they do not.
        parts: what single losses learn, by loss name.
        masked: ``projected``, of pictures that lost patches; None where ``projected`` itself is of such, or none is.
        features: by the name of the loss that asked for them.
        chunk_size: rows of a B × B matrix that are held at once; 0 holds it whole.
    """

    student: Embeddings
    teacher: Embeddings | None
    projected: Embeddings
    parts: Mapping[str, nn.Module] = field(default_factory=dict)
    masked: Embeddings | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    chunk_size: int = 0
    _cosines: dict[tuple[Row, Row], Tensor] = field(default_factory=dict, repr=False)
    _logits: dict[tuple[object, ...], Logits] = field(default_factory=dict, repr=False)

    def embeddings(self, side: Side) -> Embeddings:
        """The embeddings of one side.

        Raises:
            ValueError: the teacher is asked for and there is none.
        """
        found = {"student": self.student, "teacher": self.teacher, "projected": self.projected}
        found["masked"] = self.masked or self.projected
        embeddings = found[side]
        if embeddings is None:
            raise ValueError("this loss compares with a teacher: name one with --set teacher.model=SPEC")
        return embeddings

    def scale(self, choice: ScaleChoice, loss: str = "") -> Tensor | float:
        """The scale that a loss chose; its own is looked up among the parts, by the loss's name."""
        teacher_scale = self.embeddings("teacher").scale if choice.needs_teacher else None
        return choice.value(self.student.scale, teacher_scale, self.parts.get(loss))

    def logits(self, rows: Row, columns: Row, scale: Tensor | float) -> Logits:
        """scale · cosines of one side's pictures or texts with another's.

        >>> comparison.logits(("student", "image"), ("student", "text"), comparison.student.scale)
        """
        rows, columns = self._own(rows), self._own(columns)
        key = (rows, columns, id(scale) if isinstance(scale, Tensor) else scale)
        if key not in self._logits:
            cosines_BB = None if self.chunk_size else self._cosines_BB(rows, columns)
            first_BD, second_BD = self._rows_BD(rows), self._rows_BD(columns)
            self._logits[key] = Logits(first_BD, second_BD, scale, self.chunk_size, cosines_BB)
        return self._logits[key]

    def _cosines_BB(self, rows: Row, columns: Row) -> Tensor:
        if (columns, rows) in self._cosines:
            return self._cosines[columns, rows].T
        if (rows, columns) not in self._cosines:
            self._cosines[rows, columns] = self._rows_BD(rows) @ self._rows_BD(columns).T
        return self._cosines[rows, columns]

    def _rows_BD(self, row: Row) -> Tensor:
        side, modality = row
        embeddings = self.embeddings(side)
        return embeddings.image_BD if modality == "image" else embeddings.text_BD

    def _own(self, row: Row) -> Row:
        """The student under one name, so that losses at its own and at the teacher's width share what they can."""
        side, modality = row
        if side == "masked" and self.masked is None:
            side = "projected"
        if side == "projected" and self.projected is self.student:
            side = "student"
        return side, modality
