"""Embeddings of the probe pairs -> affinity matrices, their differences, and a readable order.

Shape letters: P pairs; M items of a matrix's side, P or 2P; N scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.errors import unknown

if TYPE_CHECKING:
    from workbench.runs.snapshots import Probe, ProbeOutputs


# A probe of a few pairs -> what student and teacher think belongs together, and where they differ.
#
# Shape letters: P pairs; M items of a matrix's side, P or, of pictures and texts together, 2P.

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

    def of(said: "ProbeOutputs", scale: float | None) -> Floats:
        return _matrix(said, measure, between, said.scale if scale is None else scale)

    teacher_PP = None if probe.teacher is None else of(probe.teacher, teacher_scale)
    return AffinityView(probe.step, probe.captions, measure, of(probe.student, student_scale), teacher_PP, between)


def _matrix(said: "ProbeOutputs", measure: Measure, between: Between, scale: float) -> Floats:
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


# Affinity matrices -> what a person looks for in them: an order that shows groups, who is found, how sharp they are.
#
# Shape letters: P pairs, N scales.

Order = Literal["index", "words", "cluster"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Flip:
    """A picture whose own text was found first at one of two checkpoints only; ``rank`` counts from 1."""

    pair: int
    caption: str
    rank_before: int
    rank_after: int

    @property
    def is_gain(self) -> bool:
        return self.rank_after == 1


@dataclass(frozen=True, eq=False)
class Sharpness:
    """How many texts a picture's affinity is spread over, exp(entropy), the mean of P pictures, at N scales.

    1 is one-hot: only the hardest choice is taught. P is flat: nothing is. float64 [N].
    """

    scale_N: Floats
    num_pairs: int
    student_N: Floats
    teacher_N: Floats | None
    student_scale: float
    teacher_scale: float | None


def ordered(captions: Sequence[str], by: Order, cosine_PP: Floats, words: Sequence[str] = ()) -> list[int]:
    """The pairs in an order, by number.

    Args:
        by: "index" as they are; "words" groups by the first of ``words`` that a caption has, in the order of the words,
            and by alphabet within; "cluster" puts together what ``cosine_PP`` (of any model, between like items) says
            is alike.

    Raises:
        ValueError: there is no such order.
    """
    if by == "index":
        return list(range(len(captions)))
    if by == "words":
        return sorted(range(len(captions)), key=lambda pair: (_first_word(captions[pair], words), captions[pair]))
    if by == "cluster":
        return _leaves(cosine_PP)
    raise unknown("order", by, ORDERS)


def _first_word(caption: str, words: Sequence[str]) -> int:
    """The place in ``words`` of the one that comes first in the caption; after all others if none does."""
    said = caption.lower().split()
    known = [words.index(word) for word in said if word in words]
    return known[0] if known else len(words)


def _leaves(cosine_PP: Floats) -> list[int]:
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

    if len(cosine_PP) < 3:
        return list(range(len(cosine_PP)))
    apart_PP = np.clip(1 - (cosine_PP + cosine_PP.T) / 2, 0, None)
    apart = apart_PP[np.triu_indices(len(apart_PP), k=1)]
    tree = optimal_leaf_ordering(linkage(apart, "average"), apart)
    order: list[int] = leaves_list(tree).tolist()
    return order


def in_order(matrix: Floats, order: Sequence[int]) -> Floats:
    """Rows and columns in this order of the pairs; both halves of the matrix of pictures and texts together."""
    places = np.array(order)
    if len(matrix) == 2 * len(places):
        places = np.concatenate([places, places + len(order)])
    placed: Floats = matrix[np.ix_(places, places)]
    return placed


def ranks(said: "ProbeOutputs") -> NDArray[np.int64]:
    """The place, from 1, of every picture's own text among the probe's texts, int64 [P]; ties count against it."""
    cosine_PP = said.image_PD.astype(np.float64) @ said.text_PD.astype(np.float64).T
    own_P = np.diag(cosine_PP)
    placed: NDArray[np.int64] = (cosine_PP >= own_P[:, None]).sum(1)
    return placed


def recall_at_1(said: "ProbeOutputs") -> float:
    """The share of the probe's pictures whose own text is the nearest, in [0, 1]."""
    return float((ranks(said) == 1).mean())


def flips(before: "Probe", after: "Probe") -> list[Flip]:
    """The student's pictures that found their text at one of two checkpoints only, the gains first.

    Raises:
        ValueError: the two are of different pairs.
    """
    if before.captions != after.captions:
        raise ValueError("the two checkpoints were probed with different pairs: choose two of one run")
    both = zip(before.captions, ranks(before.student).tolist(), ranks(after.student).tolist(), strict=True)
    found = [Flip(pair, *of) for pair, of in enumerate(both) if (of[1] == 1) != (of[2] == 1)]
    return sorted(found, key=lambda flip: (not flip.is_gain, flip.pair))


def divergence(view: AffinityView) -> float | None:
    """KL(teacher ‖ student) of the affinities in nats, the mean over rows; None without a teacher or of cosines."""
    if view.teacher_PP is None or view.measure != "affinity" or view.between == "all":
        return None
    student_PP, teacher_PP = np.maximum(view.student_PP, 1e-300), view.teacher_PP
    terms_PP = np.where(teacher_PP > 0, teacher_PP * np.log(np.maximum(teacher_PP, 1e-300) / student_PP), 0)
    return float(terms_PP.sum(1).mean())


def sharpness(probe: "Probe", scales: Sequence[float]) -> Sharpness:
    """How sharp the affinities of pictures over texts are at each of these scales 1/τ."""
    teacher = probe.teacher
    return Sharpness(
        np.array(scales, dtype=np.float64),
        len(probe.captions),
        _spread(probe.student, scales),
        _spread(teacher, scales) if teacher else None,
        probe.student.scale,
        teacher.scale if teacher else None,
    )


def _spread(said: "ProbeOutputs", scales: Sequence[float]) -> Floats:
    cosine_PP = said.image_PD.astype(np.float64) @ said.text_PD.astype(np.float64).T
    found = []
    for scale in scales:
        affinity_PP = softmax(scale * cosine_PP)
        entropy_P = -(affinity_PP * np.log(np.maximum(affinity_PP, 1e-300))).sum(1)
        found.append(float(np.exp(entropy_P).mean()))
    return np.array(found)
