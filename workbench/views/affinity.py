"""A probe of a few pairs -> what student and teacher think belongs together, and where they differ.

Shape letters: P pairs; M items of a matrix's side, P or, of pictures and texts together, 2P.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from workbench.runs.probe_snapshots import Probe, Said

Floats = NDArray[np.float64]
Measure = Literal["affinity", "cosine"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Between = Literal["image-text", "image-image", "text-text", "all"]
BETWEEN: tuple[Between, ...] = get_args(Between)


@dataclass(frozen=True, eq=False)
class AffinityView:
    """Three matrices float64 [P, P], of pictures against texts if nothing else is asked for.

    ``measure`` is "affinity", the softmax of each picture's cosines over the texts at the model's own scale, as
    TinyCLIP's affinity mimicking compares them (in [0, 1], rows sum to 1), or "cosine". ``difference_PP`` is the
    student's less the teacher's; without a teacher it is None, and so is ``teacher_PP``.

    ``between`` says what rows and columns are. Within one modality no item is its own neighbour: its softmax leaves it
    out. "all" is the [2P, 2P] of all of that, the pictures first: above, pictures to pictures and pictures to texts;
    below, texts to pictures and texts to texts.
    """

    step: int
    captions: tuple[str, ...]
    measure: Measure
    student_PP: Floats
    teacher_PP: Floats | None
    between: Between = "image-text"

    @property
    def difference_PP(self) -> Floats | None:
        return None if self.teacher_PP is None else self.student_PP - self.teacher_PP


def affinity_view(
    probe: "Probe",
    measure: Measure = "affinity",
    between: Between = "image-text",
    student_scale: float | None = None,
    teacher_scale: float | None = None,
) -> AffinityView:
    """The matrices of a probe.

    Args:
        student_scale, teacher_scale: 1/τ of the affinities; the models' own if not given.
    """

    def of(said: "Said", scale: float | None) -> Floats:
        return _matrix(said, measure, between, said.scale if scale is None else scale)

    teacher_PP = None if probe.teacher is None else of(probe.teacher, teacher_scale)
    return AffinityView(probe.step, probe.captions, measure, of(probe.student, student_scale), teacher_PP, between)


def _matrix(said: "Said", measure: Measure, between: Between, scale: float) -> Floats:
    sides = {"image": said.image_PD.astype(np.float64), "text": said.text_PD.astype(np.float64)}

    def block(rows: str, columns: str) -> Floats:
        cosine_PP: Floats = sides[rows] @ sides[columns].T
        return cosine_PP if measure == "cosine" else softmax(scale * cosine_PP, leave_out_own=rows == columns)

    if between != "all":
        rows, columns = between.split("-")
        return block(rows, columns)
    return np.block([[block(rows, columns) for columns in sides] for rows in sides])


def softmax(logits_MM: Floats, *, leave_out_own: bool = False) -> Floats:
    """Every row's softmax; without the diagonal, which is then 0, where that is asked for."""
    logits_MM = logits_MM - (np.diag(np.full(len(logits_MM), np.inf)) if leave_out_own else 0)
    weight_MM = np.exp(logits_MM - logits_MM.max(axis=1, keepdims=True))
    affinity_MM: Floats = weight_MM / weight_MM.sum(axis=1, keepdims=True)
    return affinity_MM
