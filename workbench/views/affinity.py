"""Affinity matrices of the probe pairs: teacher, student, difference, item order, sharpness and retrieval changes.

Shape letters: P pairs; M rows and columns of a matrix, P or 2P; N scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.errors import unknown

if TYPE_CHECKING:
    from workbench.runs.snapshots import Probe, ProbeOutputs

Floats = NDArray[np.float64]
Measure = Literal["affinity", "cosine"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Between = Literal["image-text", "image-image", "text-text", "all"]
BETWEEN: tuple[Between, ...] = get_args(Between)


@dataclass(frozen=True, eq=False)
class AffinityView:
    """Matrices of student and teacher, float64 [P, P] ([2P, 2P] for "all").

    ``measure`` is "affinity", the softmax over each row of the scaled cosines, as in TinyCLIP's affinity mimicking (in
    [0, 1], rows sum to 1), or "cosine". ``difference_PP`` is student minus teacher. Without a teacher, it and
    ``teacher_PP`` are None.

    ``between`` names the items of rows and columns. Within one modality the softmax excludes the diagonal. "all" is
    [[image-image, image-text], [text-image, text-text]].
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
        student_scale, teacher_scale: 1/τ of the affinities; each model's learned scale if not given.
    """

    def of(outputs: "ProbeOutputs", scale: float | None) -> Floats:
        return _matrix(outputs, measure, between, outputs.scale if scale is None else scale)

    teacher_PP = None if probe.teacher is None else of(probe.teacher, teacher_scale)
    return AffinityView(probe.step, probe.captions, measure, of(probe.student, student_scale), teacher_PP, between)


def _matrix(outputs: "ProbeOutputs", measure: Measure, between: Between, scale: float) -> Floats:
    sides = {"image": outputs.image_PD.astype(np.float64), "text": outputs.text_PD.astype(np.float64)}

    def block(rows: str, columns: str) -> Floats:
        cosine_PP: Floats = sides[rows] @ sides[columns].T
        return cosine_PP if measure == "cosine" else softmax(scale * cosine_PP, exclude_diagonal=rows == columns)

    if between != "all":
        rows, columns = between.split("-")
        return block(rows, columns)
    return np.block([[block(rows, columns) for columns in sides] for rows in sides])


def softmax(logits_MM: Floats, *, exclude_diagonal: bool = False) -> Floats:
    """The softmax of each row; an excluded diagonal is 0."""
    from scipy.special import softmax

    if exclude_diagonal:
        logits_MM = np.where(np.eye(len(logits_MM)), -np.inf, logits_MM)
    affinity_MM: Floats = softmax(logits_MM, axis=1)
    return affinity_MM


Order = Literal["index", "words", "cluster"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Flip:
    """An image that retrieves its own text at rank 1 at only one of two checkpoints; ranks count from 1."""

    pair: int
    caption: str
    rank_before: int
    rank_after: int

    @property
    def is_gain(self) -> bool:
        return self.rank_after == 1


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The effective number of texts in an image's affinity, exp(entropy), mean over P images, at N scales.

    1 is one-hot: the affinities contain little more than the label. P is uniform: they contain no information.
    """

    scale_N: Floats
    num_pairs: int
    student_N: Floats
    teacher_N: Floats | None
    student_scale: float
    teacher_scale: float | None


def ordered(captions: Sequence[str], by: Order, cosine_PP: Floats, words: Sequence[str] = ()) -> list[int]:
    """A permutation of the pair indices.

    Args:
        by: "index" is the identity; "words" groups by the first of ``words`` in each caption, in the order of
            ``words`` and alphabetically within; "cluster" is a hierarchical clustering by ``cosine_PP``.
        cosine_PP: cosines between items of one modality, by any model.
    """
    if by == "index":
        return list(range(len(captions)))
    if by == "words":
        return sorted(range(len(captions)), key=lambda pair: (_first_word(captions[pair], words), captions[pair]))
    if by == "cluster":
        return _leaves(cosine_PP)
    raise unknown("order", by, ORDERS)


def _first_word(caption: str, words: Sequence[str]) -> int:
    """The index in ``words`` of the caption's first known word; ``len(words)`` if it has none."""
    known = [words.index(word) for word in caption.lower().split() if word in words]
    return known[0] if known else len(words)


def _leaves(cosine_PP: Floats) -> list[int]:
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

    if len(cosine_PP) < 3:
        return list(range(len(cosine_PP)))
    # Symmetric and non-negative in spite of rounding, as linkage requires.
    distance_PP = np.clip(1 - (cosine_PP + cosine_PP.T) / 2, 0, None)
    condensed = distance_PP[np.triu_indices(len(distance_PP), k=1)]
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    order: list[int] = leaves_list(tree).tolist()
    return order


def in_order(matrix: Floats, order: Sequence[int]) -> Floats:
    """``matrix`` with rows and columns permuted; for a [2P, 2P] matrix, both halves in the same order."""
    indices = np.array(order)
    if len(matrix) == 2 * len(indices):
        indices = np.concatenate([indices, indices + len(order)])
    permuted: Floats = matrix[np.ix_(indices, indices)]
    return permuted


def ranks(outputs: "ProbeOutputs") -> NDArray[np.int64]:
    """The rank, from 1, of each image's own text among the probe's texts, int64 [P]; ties rank it last."""
    cosine_PP = outputs.image_PD.astype(np.float64) @ outputs.text_PD.astype(np.float64).T
    own_P = np.diag(cosine_PP)
    rank_P: NDArray[np.int64] = (cosine_PP >= own_P[:, None]).sum(1)
    return rank_P


def recall_at_1(outputs: "ProbeOutputs") -> float:
    """Image-to-text R@1 among the probe's pairs, in [0, 1]."""
    return float((ranks(outputs) == 1).mean())


def flips(before: "Probe", after: "Probe") -> list[Flip]:
    """The student's images with rank 1 at only one of two checkpoints, gains first."""
    if before.captions != after.captions:
        raise ValueError("the two checkpoints have different probe pairs: choose two checkpoints of one run")
    both = zip(before.captions, ranks(before.student).tolist(), ranks(after.student).tolist(), strict=True)
    changed = [Flip(pair, *of) for pair, of in enumerate(both) if (of[1] == 1) != (of[2] == 1)]
    return sorted(changed, key=lambda flip: (not flip.is_gain, flip.pair))


def divergence(view: AffinityView) -> float | None:
    """KL(teacher ‖ student) of the affinities in nats, mean over rows; None without a teacher and for cosines."""
    if view.teacher_PP is None or view.measure != "affinity" or view.between == "all":
        return None
    student_PP, teacher_PP = np.maximum(view.student_PP, 1e-300), view.teacher_PP
    terms_PP = np.where(teacher_PP > 0, teacher_PP * np.log(np.maximum(teacher_PP, 1e-300) / student_PP), 0)
    return float(terms_PP.sum(1).mean())


def sharpness(probe: "Probe", scales: Sequence[float]) -> Sharpness:
    """The sharpness of the image-to-text affinities at each scale 1/τ."""
    teacher = probe.teacher
    return Sharpness(
        np.array(scales, dtype=np.float64),
        len(probe.captions),
        _spread(probe.student, scales),
        _spread(teacher, scales) if teacher else None,
        probe.student.scale,
        teacher.scale if teacher else None,
    )


def _spread(outputs: "ProbeOutputs", scales: Sequence[float]) -> Floats:
    cosine_PP = outputs.image_PD.astype(np.float64) @ outputs.text_PD.astype(np.float64).T
    sizes = []
    for scale in scales:
        affinity_PP = softmax(scale * cosine_PP)
        entropy_P = -(affinity_PP * np.log(np.maximum(affinity_PP, 1e-300))).sum(1)
        sizes.append(float(np.exp(entropy_P).mean()))
    return np.array(sizes)
