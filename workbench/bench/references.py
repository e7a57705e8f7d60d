"""Naive reference implementations of the losses: the papers' released arithmetic without shared intermediates.

Benchmarks measure against these, and tests compare with them; they share only input types and learned parameters with
``workbench.losses``. All follow the "released" convention of PAPERS.md; TinyCLIP's modes other than affinity mimicking
have no released code and follow the interpretation of its Table 10 given there.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.bench.contest import Work
from workbench.embeddings import Embeddings
from workbench.losses.base import Convention
from workbench.losses.comparison import Comparison

# Lower bound of a dense loss: the matrix products that forward and backward need at least, without exponentials, sums
# and copies.


# What is multiplied, the shapes of the two matrices as three letters, and how often: "BDB" is a [B, D] with a [D, B]
# matrix. B: batch size, D: embedding width of both models, E: 2 D. The description tells apart products of one shape.
Products = tuple[str, str, int]
STUDENT: tuple[Products, ...] = (
    ("the student's cosines", "BDB", 1),
    ("their gradient, to its images and texts", "BBD", 2),
)
TEACHER: tuple[Products, ...] = (("the teacher's cosines", "BDB", 1),)
MIXED: tuple[Products, ...] = (
    ("the student's images with the teacher's texts, and the reverse", "BDB", 2),
    ("the gradient of mixed cosines, to the student alone", "BBD", 2),
)
ALIKE: tuple[Products, ...] = (
    ("the student's images with the teacher's, and captions with captions", "BDB", 2),
    ("the gradient of cosines of one modality, to the student alone", "BBD", 2),
)
FUSED: tuple[Products, ...] = (
    ("the fusion of either modality", "BED", 2),
    ("fused cosines", "BDB", 1),
    ("the gradient of fused cosines, to images and texts", "BBD", 2),
    ("the gradient of either fusion, to its weights", "DBE", 2),
    ("the gradient of either fusion, to the student", "BDD", 2),
)
WITHIN: tuple[Products, ...] = (
    ("the student's cosines within either modality", "BDB", 2),
    ("the teacher's cosines within either modality", "BDB", 2),
    ("the gradient of cosines within, which are symmetric", "BBD", 2),
)
# The softmaxes over rows and over columns are added before they meet the embeddings ...
GRADIENTS: tuple[Products, ...] = (
    ("the teacher's contrastive gradients, of images and texts", "BBD", 2),
    ("the student's contrastive gradients, of images and texts", "BBD", 2),
    ("their gradient, to the softmaxes", "BDB", 2),
    ("their gradient, to the embeddings they weight", "BBD", 2),
)
# ... unless the two directions are compared one by one.
GRADIENTS_APART = tuple((what, shapes, 2 * count) for what, shapes, count in GRADIENTS)

RELEASED: dict[str, tuple[Products, ...]] = {
    "clip": STUDENT,
    "crd": STUDENT + TEACHER,
    "fd": (),
    "gd": STUDENT + TEACHER + GRADIENTS_APART,
    "icl": MIXED,
    "afd": FUSED,
    "affinity": STUDENT + TEACHER,
    "cross_modal": MIXED + TEACHER,
    "single_modal": WITHIN,
    "sigmoid": STUDENT,
    "vrd": ALIKE,
    "xrd": MIXED,
    "dark": STUDENT + TEACHER,
}
PRODUCTS: dict[Convention, dict[str, tuple[Products, ...]]] = {
    "released": RELEASED,
    "paper": RELEASED | {"gd": STUDENT + TEACHER + GRADIENTS},
}


def floor(
    losses: Collection[str], convention: Convention, batch_size: int, width: int, device: torch.device
) -> Work | None:
    """A call that computes the products these losses need together, on random float32 matrices; None if there are none.

    Products that several losses need are computed once.
    """
    needed = dict.fromkeys(products for loss in losses for products in PRODUCTS[convention][loss])
    if not needed:
        return None
    lengths = {"B": batch_size, "D": width, "E": 2 * width}

    def matrix(shape: str) -> Tensor:
        return torch.randn(*(lengths[letter] for letter in shape), device=device)

    work = [(matrix(shapes[:2]), matrix(shapes[1:]), matrix(shapes[::2]), count) for _, shapes, count in needed]

    def multiply() -> None:
        for left, right, out, count in work:
            for _ in range(count):
                torch.mm(left, right, out=out)

    return multiply


AFFINITY_SCALE = 50.0  # TinyCLIP's 1/τ


def clip(comparison: Comparison) -> Tensor:
    """The student's images against its texts, both directions averaged."""
    student = comparison.student
    image_to_text = _info_nce(student.image_BD, student.text_BD, student.scale)
    return (image_to_text + _info_nce(student.text_BD, student.image_BD, student.scale)) / 2


def crd(comparison: Comparison) -> Tensor:
    """KL from the teacher's softmax over the batch to the student's, both directions averaged."""
    student, teacher = comparison.student, _teacher(comparison)
    image_to_text = _relative_entropy(
        teacher.scale * teacher.image_BD @ teacher.text_BD.T, student.scale * student.image_BD @ student.text_BD.T
    )
    text_to_image = _relative_entropy(
        teacher.scale * teacher.text_BD @ teacher.image_BD.T, student.scale * student.text_BD @ student.image_BD.T
    )
    return (image_to_text + text_to_image) / 2


def fd(comparison: Comparison) -> Tensor:
    """The mean over all B·D squared differences of the embeddings, images and texts added."""
    student, teacher = comparison.projected, _teacher(comparison)
    return F.mse_loss(student.image_BD, teacher.image_BD) + F.mse_loss(student.text_BD, teacher.text_BD)


def gd(comparison: Comparison) -> Tensor:
    """Four mean squared differences of the contrastive losses' gradients, with the scale where τ belongs."""
    student, teacher = comparison.projected, _teacher(comparison)
    ours, target = _contrastive_gradients(student), _contrastive_gradients(teacher)
    errors = [F.mse_loss(one_BD, other_BD) for one_BD, other_BD in zip(ours, target, strict=True)]
    return torch.stack(errors).sum()


def icl(comparison: Comparison) -> Tensor:
    """The student's embeddings against the teacher's of the other modality; the scale is the parameter as it stands."""
    student, teacher, scale = comparison.projected, _teacher(comparison), comparison.parts["icl"]()
    image_to_text = _info_nce(student.image_BD, teacher.text_BD, scale)
    return (image_to_text + _info_nce(student.text_BD, teacher.image_BD, scale)) / 2


def afd(comparison: Comparison) -> Tensor:
    """CLIP's loss on linear fusions of both models' embeddings; the scale is the parameter as it stands."""
    student, teacher = comparison.student, _teacher(comparison)
    fusion: Any = comparison.parts["afd"]
    image_BD = F.normalize(fusion.image(torch.cat([student.image_BD, teacher.image_BD], dim=1)), dim=1)
    text_BD = F.normalize(fusion.text(torch.cat([student.text_BD, teacher.text_BD], dim=1)), dim=1)
    scale = fusion.scale()
    return (_info_nce(image_BD, text_BD, scale) + _info_nce(text_BD, image_BD, scale)) / 2


def affinity(comparison: Comparison) -> Tensor:
    """Cross-entropy from the teacher's affinities to the student's, both directions averaged."""
    student, teacher = comparison.student, _teacher(comparison)
    image_to_text = _imitation(teacher.image_BD @ teacher.text_BD.T, student.image_BD @ student.text_BD.T)
    text_to_image = _imitation(teacher.text_BD @ teacher.image_BD.T, student.text_BD @ student.image_BD.T)
    return (image_to_text + text_to_image) / 2


def cross_modal(comparison: Comparison) -> Tensor:
    """L2 + L3: the teacher's affinities as target of those between one model's images and the other model's texts."""
    student, teacher = comparison.projected, _teacher(comparison)
    modes = []
    for image_BD, text_BD in ((student.image_BD, teacher.text_BD), (teacher.image_BD, student.text_BD)):
        image_to_text = _imitation(teacher.image_BD @ teacher.text_BD.T, image_BD @ text_BD.T)
        text_to_image = _imitation(teacher.text_BD @ teacher.image_BD.T, text_BD @ image_BD.T)
        modes.append((image_to_text + text_to_image) / 2)
    return modes[0] + modes[1]


def single_modal(comparison: Comparison) -> Tensor:
    """L4 + L5: affinities of images with images, and of texts with texts."""
    student, teacher = comparison.student, _teacher(comparison)
    image = _imitation(teacher.image_BD @ teacher.image_BD.T, student.image_BD @ student.image_BD.T)
    return image + _imitation(teacher.text_BD @ teacher.text_BD.T, student.text_BD @ student.text_BD.T)


STRAIGHTFORWARD: dict[str, Callable[[Comparison], Tensor]] = {
    loss.__name__: loss for loss in (clip, crd, fd, gd, icl, afd, affinity, cross_modal, single_modal)
}


def _teacher(comparison: Comparison) -> Embeddings:
    assert comparison.teacher is not None
    return comparison.teacher


def _info_nce(anchor_BD: Tensor, other_BD: Tensor, scale: Tensor) -> Tensor:
    logits_BB = scale * anchor_BD @ other_BD.T
    return F.cross_entropy(logits_BB, torch.arange(len(logits_BB), device=logits_BB.device))


def _relative_entropy(target_BB: Tensor, logits_BB: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits_BB, dim=1), F.softmax(target_BB, dim=1), reduction="batchmean")


def _imitation(target_BB: Tensor, cosines_BB: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy from one affinity to the other."""
    target_BB = F.softmax(AFFINITY_SCALE * target_BB, dim=1)
    return -(target_BB * F.log_softmax(AFFINITY_SCALE * cosines_BB, dim=1)).sum(1).mean()


def _contrastive_gradients(embeddings: Embeddings) -> list[Tensor]:
    """Gradients of the image-to-text loss, then of the text-to-image loss, each at its anchors and its candidates."""
    image_BD, text_BD, tau = embeddings.image_BD, embeddings.text_BD, embeddings.scale
    return [*_gradients_of_mean(image_BD, text_BD, tau), *_gradients_of_mean(text_BD, image_BD, tau)]


def _gradients_of_mean(anchor_BD: Tensor, candidate_BD: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of one direction's mean cross-entropy; the candidates' by way of a B × D × B tensor, as released."""
    num_pairs, width = anchor_BD.shape
    error_BB = F.softmax(anchor_BD @ candidate_BD.T / tau, dim=1) - torch.eye(num_pairs).to(anchor_BD)
    at_anchors_BD = error_BB @ candidate_BD / tau / num_pairs
    error_BDB = error_BB.T.unsqueeze(1).repeat(1, width, 1)  # for each candidate and channel, over the anchors
    at_candidates_BD = (error_BDB * (anchor_BD.T / tau)).sum(2) / num_pairs
    return at_anchors_BD, at_candidates_BD
