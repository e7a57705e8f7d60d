"""Contrastive relational distillation: match the teacher's softmax over the batch."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Comparison
from workbench.losses.base import Convention, Loss


class CrdLoss(Loss):
    """KL from the teacher's picture-to-text and text-to-picture distributions to the student's, each at its own scale.

    In nats, mean over anchors; zero when both see the same relations, whatever the embeddings. The paper sums the two
    directions, the released code averages them, so its λ = 1 is the paper convention's 0.5.
    """

    name = "crd"
    title = "contrastive relational distillation"
    paper = "CLIP-KD, section 3.2.1"
    equation = "mean_k KL(pᵀ[k] ‖ pˢ[k]) + KL(qᵀ[k] ‖ qˢ[k])"
    departure = "the release averages the two directions; the paper sums them"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 0.5, "released": 1.0}

    def __call__(self, comparison: Comparison) -> Tensor:
        student_BB = comparison.student.scale * comparison.cosines_BB("student", "student")
        teacher_BB = comparison.embeddings("teacher").scale * comparison.cosines_BB("teacher", "teacher")
        both = kl_of_rows(teacher_BB, student_BB) + kl_of_rows(teacher_BB.T, student_BB.T)
        return both / 2 if self.convention == "released" else both


def kl_of_rows(target_BB: Tensor, logits_BB: Tensor) -> Tensor:
    """mean_k KL(softmax(target row k) ‖ softmax(logits row k)), in nats."""
    target, ours = F.log_softmax(target_BB, dim=1), F.log_softmax(logits_BB, dim=1)
    return F.kl_div(ours, target, reduction="batchmean", log_target=True)
