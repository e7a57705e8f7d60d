"""How far a student agrees with its teacher: two cosines, and two measures that a rotation cannot fool."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.evaluation.ranks import block_slices

# What interactive contrastive learning maximizes: lower bounds on the mutual information of student and teacher.

CONTRAST_SIZE = 1000  # pairs contrasted together: no estimate passes the logarithm of this number


@torch.no_grad()
def mutual_information_bounds(student: Embeddings, teacher: Embeddings, scale: float) -> dict[str, float]:
    """Lower bounds in nats on I(vˢ, sᵀ) and I(sˢ, vᵀ), by metric name (CLIP-KD, appendix, equations 8-23).

    Each is log(B−1) minus the contrastive loss of the student's rows among the teacher's other modality, mean over
    blocks of 1,000 pairs, weighted by their size. A bound may be negative; it says nothing then.

    Args:
        student: at the teacher's width.
        teacher: of the same pairs.
        scale: 1/τ of the contrast.

    Raises:
        ValueError: fewer than 2 pairs, or different numbers of them.
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(f"the bounds need the same 2 or more pairs: student {len(student)}, teacher {len(teacher)}")
    return {
        "mutual_information_image": _bound(student.image_BD, teacher.text_BD, scale),
        "mutual_information_text": _bound(student.text_BD, teacher.image_BD, scale),
    }


def _bound(student_ND: Tensor, teacher_ND: Tensor, scale: float) -> float:
    total = 0.0
    for block in block_slices(len(student_ND), CONTRAST_SIZE):
        logits_BB = scale * (student_ND[block] @ teacher_ND[block].T)
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        total += len(own_B) * (math.log(len(own_B) - 1) - float(F.cross_entropy(logits_BB, own_B)))
    return total / len(student_ND)


BLOCK_SIZE = 1000  # pairs whose affinities are compared together: KL and entropy grow with this number
CONSTANT = 1e-12  # a share of variance that is float32 rounding


@torch.no_grad()
def agreement(student: Embeddings, teacher: Embeddings, projected: Embeddings | None = None) -> dict[str, float]:
    """Four measures of agreement on the same N pairs, by metric name.

    ``similarity_single`` and ``similarity_cross`` are the columns of TinyCLIP's Table 10 (supplement): the
    mean cosine of the student's and the teacher's embedding of the same sample, and of the student's image
    with the teacher's text and the reverse, each averaged over the modalities. They compare coordinates.
    Table 10's students inherit the teacher's weights, and with them its axes. A student trained from scratch
    by a loss that sees only its own cosines (contrastive, affinity mimicking) may rotate its whole space
    without changing that loss, so its cosines with the teacher are near 0 however well it has learned. ``cka``
    and ``affinity_kl`` do not change under rotation.

    Args:
        student: its own embeddings.
        teacher: of the same pairs.
        projected: the student at the teacher's width, where it has a learned projection. Without it the
            cosines are taken from the student's own embeddings; where the widths differ, both are left out.

    Raises:
        ValueError: fewer than 4 pairs, or different numbers of them.
    """
    if len(student) != len(teacher) or len(student) < 4:
        raise ValueError(f"agreement needs the same 4 or more pairs: student {len(student)}, teacher {len(teacher)}")
    found = {}
    aligned = projected or student
    if aligned.width == teacher.width:
        found["similarity_single"] = (
            _mean_cosine(aligned.image_BD, teacher.image_BD) + _mean_cosine(aligned.text_BD, teacher.text_BD)
        ) / 2
        found["similarity_cross"] = (
            _mean_cosine(aligned.image_BD, teacher.text_BD) + _mean_cosine(aligned.text_BD, teacher.image_BD)
        ) / 2
    image_cka = linear_cka(student.image_BD, teacher.image_BD)
    found["cka"] = (image_cka + linear_cka(student.text_BD, teacher.text_BD)) / 2
    found["affinity_kl"] = affinity_kl(student, teacher)
    return found


def linear_cka(first_ND: Tensor, second_NE: Tensor) -> float:
    """Linear centered kernel alignment: 1 for equal geometry, whatever the rotation, shift and overall scale.

    The debiased estimator: HSIC is the U-statistic of Song et al. (2012, eq. 5), so that unrelated embeddings
    give 0 on average however few the items, and a little less than 0 at times. All is done in feature space,
    with D by E matrices and never N by N, in float64. A constant embedding (a collapsed model) has no
    geometry and gives 0.
    """
    centered = []
    for rows in (first_ND.cpu().double(), second_NE.cpu().double()):
        centered.append(rows - rows.mean(0))
        if centered[-1].square().sum() < CONSTANT * rows.square().sum():
            return 0.0
    first_ND, second_NE = centered
    own = _hsic(first_ND, first_ND) * _hsic(second_NE, second_NE)
    return _hsic(first_ND, second_NE) / math.sqrt(own) if own > 0 else 0.0


def _hsic(first_ND: Tensor, second_NE: Tensor) -> float:
    """The U-statistic of Song et al., times n(n - 3), from centered rows.

    With K = first·firstᵀ and L = second·secondᵀ without their diagonals: tr(KL) + 1ᵀK1·1ᵀL1 / ((n-1)(n-2))
    - 2·1ᵀKL1 / (n-2). Rows are centered, so K1 is minus the diagonal that was taken away.
    """
    num_items = len(first_ND)
    first_N, second_N = first_ND.square().sum(1), second_NE.square().sum(1)
    cross = float(first_N @ second_N)
    trace = float((first_ND.T @ second_NE).square().sum()) - cross
    sums = float(first_N.sum() * second_N.sum()) / ((num_items - 1) * (num_items - 2))
    return trace + sums - 2 * cross / (num_items - 2)


@torch.no_grad()
def affinity_kl(student: Embeddings, teacher: Embeddings) -> float:
    """KL(A^T ‖ A^S) in nats, mean over rows and over image→text and text→image; 0 for equal affinities.

    Affinities are softmax rows of the cosines times each model's own scale, within blocks of 1,000 pairs, so
    that the number does not depend on how many pairs were evaluated (from 1,000 on).
    """
    total = 0.0
    for block in block_slices(len(student), BLOCK_SIZE):
        student_BB, teacher_BB = _logits(student, block), _logits(teacher, block)
        total += _kl_sum(student_BB, teacher_BB) + _kl_sum(student_BB.T, teacher_BB.T)
    return total / (2 * len(student))


@torch.no_grad()
def affinity_entropy(embeddings: Embeddings) -> float:
    """The mean entropy of the image→text affinity rows in blocks of 1,000 pairs: 0 to ln 1,000 = 6.9 nats.

    A teacher near 0 is nearly one-hot on these pairs: its affinities teach no more than the pairs themselves.
    """
    total = 0.0
    for block in block_slices(len(embeddings), BLOCK_SIZE):
        log_BB = _logits(embeddings, block).log_softmax(1)
        total -= float((log_BB.exp() * log_BB).sum())
    return total / len(embeddings)


def _mean_cosine(first_ND: Tensor, second_ND: Tensor) -> float:
    return float(F.cosine_similarity(first_ND.float(), second_ND.float().to(first_ND.device), dim=1).mean())


def _logits(embeddings: Embeddings, block: slice) -> Tensor:
    cosine_BB = embeddings.image_BD[block].float() @ embeddings.text_BD[block].float().T
    return embeddings.scale.to(cosine_BB) * cosine_BB


def _kl_sum(student_BB: Tensor, teacher_BB: Tensor) -> float:
    student_log_BB = student_BB.log_softmax(1)
    teacher_log_BB = teacher_BB.to(student_BB.device).log_softmax(1)
    return float(F.kl_div(student_log_BB, teacher_log_BB, reduction="sum", log_target=True))
