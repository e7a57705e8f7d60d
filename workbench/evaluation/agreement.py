"""Agreement of a student with its teacher: cosines, and measures that are invariant to rotation."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.evaluation.retrieval import block_slices

CONTRAST_SIZE = 1000  # pairs per contrastive loss: log of it is the largest bound that can be estimated


@torch.no_grad()
def mutual_information_bounds(student: Embeddings, teacher: Embeddings, scale: float) -> dict[str, float]:
    """Lower bounds in nats on I(vˢ, sᵀ) and I(sˢ, vᵀ), by metric name (CLIP-KD, appendix, equations 8-23).

    Each is log(B−1) minus the contrastive loss of the student's embeddings with the teacher's other modality, averaged
    over blocks of 1,000 pairs, weighted by their size. A negative bound carries no information.

    Args:
        student: at the teacher's width.
        teacher: of the same pairs.
        scale: 1/τ of the contrastive loss.
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(f"the bounds need the same pairs, at least 2: student {len(student)}, teacher {len(teacher)}")
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


BLOCK_SIZE = 1000  # pairs per softmax: KL and entropy grow with this number
CONSTANT = 1e-12  # a relative variance below this is float32 rounding of a constant


@torch.no_grad()
def agreement_by_pair(
    student: Embeddings, teacher: Embeddings, projected: Embeddings | None = None
) -> dict[str, Tensor]:
    """The measures of :func:`agreement` that are means over the N pairs, float64 [N] on the CPU, by metric name."""
    aligned = projected or student
    found = {}
    # Cosines between different widths are undefined.
    if aligned.width == teacher.width:
        image_N, text_N = _cosines(aligned.image_BD, teacher.image_BD), _cosines(aligned.text_BD, teacher.text_BD)
        found["similarity_single"] = (image_N + text_N) / 2
        image_N, text_N = _cosines(aligned.image_BD, teacher.text_BD), _cosines(aligned.text_BD, teacher.image_BD)
        found["similarity_cross"] = (image_N + text_N) / 2
    found["affinity_kl"] = _affinity_kl_by_pair(student, teacher)
    return found


@torch.no_grad()
def agreement(
    student: Embeddings,
    teacher: Embeddings,
    projected: Embeddings | None = None,
    by_pair: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """Four measures of agreement on the same N pairs, by metric name.

    ``similarity_single`` and ``similarity_cross`` are the columns of TinyCLIP's Table 10 (supplement): the mean cosine
    of the student's and the teacher's embedding of the same sample, and of the student's image with the teacher's text
    and the reverse, each averaged over the modalities. They depend on the coordinate system. The students of Table 10
    inherit the teacher's weights, and with them its axes. A student trained from scratch with a loss on its own cosines
    only (contrastive, affinity mimicking) may be rotated against the teacher at no cost, so its cosines with the
    teacher are near 0 however good it is. ``cka`` and ``affinity_kl`` are invariant to rotation.

    Args:
        student: its own embeddings.
        teacher: of the same pairs.
        projected: the student at the teacher's width, if it has a learned projection. By default, cosines use the
            student's own embeddings, and are left out where the widths differ.
        by_pair: :func:`agreement_by_pair` of the same, if it is known.
    """
    if len(student) != len(teacher) or len(student) < 4:
        raise ValueError(f"agreement needs the same pairs, at least 4: student {len(student)}, teacher {len(teacher)}")
    by_pair = by_pair or agreement_by_pair(student, teacher, projected)
    found = {name: float(values_N.mean()) for name, values_N in by_pair.items()}
    kl = found.pop("affinity_kl")
    image_cka = linear_cka(student.image_BD, teacher.image_BD)
    found["cka"] = (image_cka + linear_cka(student.text_BD, teacher.text_BD)) / 2
    return found | {"affinity_kl": kl}


def linear_cka(first_ND: Tensor, second_NE: Tensor) -> float:
    """Linear centered kernel alignment: 1 for equal geometry, invariant to rotation, shift and uniform scaling.

    The debiased estimator: HSIC is the U-statistic of Song et al. (2012, eq. 5), so unrelated embeddings give 0 on
    average for any number of items, and sometimes slightly less than 0. A constant embedding (a collapsed model) gives
    0. Computed in float64 with D × E matrices, never N × N.
    """
    centered = []
    for rows in (first_ND.cpu().double(), second_NE.cpu().double()):
        centered.append(rows - rows.mean(0))
        if centered[-1].square().sum() < CONSTANT * rows.square().sum():
            return 0.0
    first_ND, second_NE = centered
    # Debiased, a self-HSIC can be 0 or negative on few items.
    own = _hsic(first_ND, first_ND) * _hsic(second_NE, second_NE)
    return _hsic(first_ND, second_NE) / math.sqrt(own) if own > 0 else 0.0


def _hsic(first_ND: Tensor, second_NE: Tensor) -> float:
    """The U-statistic of Song et al., times n(n − 3), from centered rows.

    With K = first·firstᵀ and L = second·secondᵀ without their diagonals: tr(KL) + 1ᵀK1·1ᵀL1 / ((n−1)(n−2))
    − 2·1ᵀKL1 / (n−2). For centered rows, K1 is minus the removed diagonal.
    """
    num_items = len(first_ND)
    first_N, second_N = first_ND.square().sum(1), second_NE.square().sum(1)
    cross = float(first_N @ second_N)
    trace = float((first_ND.T @ second_NE).square().sum()) - cross
    sums = float(first_N.sum() * second_N.sum()) / ((num_items - 1) * (num_items - 2))
    return trace + sums - 2 * cross / (num_items - 2)


@torch.no_grad()
def affinity_kl(student: Embeddings, teacher: Embeddings) -> float:
    """KL(Aᵀ ‖ Aˢ) in nats, mean over rows and over image→text and text→image; 0 for equal affinities.

    Affinities are softmax rows of the cosines times each model's own scale, within blocks of 1,000 pairs, so that the
    value does not depend on the number of pairs (from 1,000 on).
    """
    return float(_affinity_kl_by_pair(student, teacher).mean())


def _affinity_kl_by_pair(student: Embeddings, teacher: Embeddings) -> Tensor:
    """float64 [N]: the mean of each pair's image row and text row."""
    parts = []
    for block in block_slices(len(student), BLOCK_SIZE):
        student_BB, teacher_BB = _logits(student, block), _logits(teacher, block)
        parts.append((_kl_rows(student_BB, teacher_BB) + _kl_rows(student_BB.T, teacher_BB.T)) / 2)
    return torch.cat(parts)


@torch.no_grad()
def affinity_entropy(embeddings: Embeddings) -> float:
    """Mean entropy of the image→text affinity rows in blocks of 1,000 pairs, from 0 to ln 1,000 = 6.9 nats.

    Near 0, a teacher's affinities are almost one-hot on these pairs and carry no more information than the pairing.
    """
    total = 0.0
    for block in block_slices(len(embeddings), BLOCK_SIZE):
        log_BB = _logits(embeddings, block).log_softmax(1)
        total -= float((log_BB.exp() * log_BB).sum())
    return total / len(embeddings)


def _cosines(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    return F.cosine_similarity(first_ND.float(), second_ND.float().to(first_ND.device), dim=1).double().cpu()


def _logits(embeddings: Embeddings, block: slice) -> Tensor:
    cosine_BB = embeddings.image_BD[block].float() @ embeddings.text_BD[block].float().T
    return embeddings.scale.to(cosine_BB) * cosine_BB


def _kl_rows(student_BB: Tensor, teacher_BB: Tensor) -> Tensor:
    student_log_BB = student_BB.log_softmax(1)
    teacher_log_BB = teacher_BB.to(student_BB.device).log_softmax(1)
    kl_B = F.kl_div(student_log_BB, teacher_log_BB, reduction="none", log_target=True).sum(1)
    return kl_B.double().cpu()
