"""The input of every loss: a student and its teacher on one batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from workbench.embeddings import Embeddings, GroupMember, Modality
from workbench.losses.candidates import Candidates
from workbench.losses.logits import Logits
from workbench.losses.scale import ScaleChoice
from workbench.losses.tf32 import rounded

Side = Literal["student", "teacher", "projected", "masked"]
Row = tuple[Side, Modality]


@dataclass(frozen=True)
class Features:
    """Image-tower features of student and teacher, matched pairwise: maps [B, C, H, W], or pooled [B, C]."""

    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """A student and its teacher on one batch, immutable. Cosines and logits are cached, so that losses share them.

    Args:
        student: its own embeddings.
        teacher: its embeddings of the same pairs, without gradient; None without a teacher.
        projected: the student at the teacher's width: through the learned projections where the widths differ,
            otherwise ``student`` itself.
        parts: learned parts of single losses, by loss name.
        masked: ``projected`` for images with patches removed; None if ``projected`` itself is masked, or nothing is.
        features: image-tower features, by the name of the loss that requested them.
        chunk_size: rows of a B × B matrix in memory at once; 0 keeps the dense matrix.
        progress: share of the training steps that are taken, from 0 to 1, for losses that change during training.
        all_pairs: the teacher's embeddings of every training pair, for losses with ``candidates = "all"``.
        in_tf32: round the embeddings of cosines and logits as a GPU's TF32 products do (:mod:`workbench.losses.tf32`).
    """

    student: Embeddings
    teacher: Embeddings | None
    projected: Embeddings
    parts: Mapping[str, nn.Module] = field(default_factory=dict)
    masked: Embeddings | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    chunk_size: int = 0
    progress: float = 0.0
    all_pairs: Candidates | None = None
    in_tf32: bool = False
    _rounded: dict[Row, Tensor] = field(default_factory=dict, repr=False)
    _cosines: dict[tuple[Row, Row], Tensor] = field(default_factory=dict, repr=False)
    _logits: dict[tuple[object, ...], Logits] = field(default_factory=dict, repr=False)

    def embeddings(self, side: Side) -> Embeddings:
        """The embeddings of one side.

        Raises:
            ValueError: the side is "teacher" and there is no teacher.
        """
        found = {"student": self.student, "teacher": self.teacher, "projected": self.projected}
        found["masked"] = self.masked or self.projected
        embeddings = found[side]
        if embeddings is None:
            raise ValueError("this loss compares with a teacher: name one with --set teacher.model=SPEC")
        return embeddings

    def scale(self, choice: ScaleChoice, loss: str = "", which: Modality | None = None) -> Tensor | float:
        """The value of a loss's scale setting.

        Args:
            loss: the name under which ``parts`` holds a learned scale, or a ModuleDict with the scale of each modality.
            which: the modality, for a loss that learns a scale for each.
        """
        teacher_scale = self.embeddings("teacher").scale if choice.needs_teacher else None
        own = self.parts.get(loss)
        if which and isinstance(own, nn.ModuleDict):
            own = own[which]
        return choice.value(self.student.scale, teacher_scale, own)

    @property
    def candidates(self) -> Candidates:
        """The teacher's embeddings of every training pair.

        Raises:
            ValueError: there are none, as outside training.
        """
        if self.all_pairs is None:
            raise ValueError('candidates = "all" compares with every training pair: it works in training only')
        return self.all_pairs

    def logits(self, rows: Row, columns: Row, scale: Tensor | float) -> Logits:
        """Scaled cosines of one side's images or captions with another's.

        >>> comparison.logits(("student", "image"), ("student", "text"), comparison.student.scale)
        """
        rows, columns = self._canonical(rows), self._canonical(columns)
        # By identity, not value: comparing tensors would synchronize with the device. The Logits keep it alive.
        key = (rows, columns, id(scale) if isinstance(scale, Tensor) else scale)
        if key not in self._logits:
            # Losses at different scales share the matrix product; only the multiplication by the scale is their own.
            cosines_BB = None if self.chunk_size else self._cosines_BB(rows, columns)
            first_BD, second_BD = self._rows_BD(rows), self._rows_BD(columns)
            self._logits[key] = Logits(first_BD, second_BD, scale, self.chunk_size, cosines_BB)
        return self._logits[key]

    def member_logits(self, member: GroupMember, rows: Modality, columns: Modality, choice: ScaleChoice) -> Logits:
        """The logits of one teacher of a group, at a scale that is no parameter: fixed, or a multiple of its own."""
        scale = choice.value(self.student.scale, member.scale, None)
        first_BD, second_BD = (self._rows_BD(("teacher", side))[:, member.columns] for side in (rows, columns))
        return Logits(first_BD, second_BD, scale / member.share, self.chunk_size)

    def _cosines_BB(self, rows: Row, columns: Row) -> Tensor:
        if (columns, rows) in self._cosines:  # a transpose is a view: no second product
            return self._cosines[columns, rows].T
        if (rows, columns) not in self._cosines:
            self._cosines[rows, columns] = self._rows_BD(rows) @ self._rows_BD(columns).T
        return self._cosines[rows, columns]

    def _rows_BD(self, row: Row) -> Tensor:
        side, modality = row
        embeddings = self.embeddings(side)
        rows_BD = embeddings.image_BD if modality == "image" else embeddings.text_BD
        if not self.in_tf32:
            return rows_BD
        if row not in self._rounded:
            self._rounded[row] = rounded(rows_BD)
        return self._rounded[row]

    def _canonical(self, row: Row) -> Row:
        """A unique name per tensor, so that losses at the student's and at the teacher's width share matrices."""
        side, modality = row
        if side == "masked" and self.masked is None:
            side = "projected"
        if side == "projected" and self.projected is self.student:
            side = "student"
        return side, modality
