"""What interactive contrastive learning maximises: lower bounds on the mutual information of student and teacher."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.evaluation.blocks import block_slices

BLOCK_SIZE = 1000  # pairs contrasted together: no estimate passes the logarithm of this number


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
    for block in block_slices(len(student_ND), BLOCK_SIZE):
        logits_BB = scale * (student_ND[block] @ teacher_ND[block].T)
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        total += len(own_B) * (math.log(len(own_B) - 1) - float(F.cross_entropy(logits_BB, own_B)))
    return total / len(student_ND)
