"""CLIP's own contrastive loss: the task itself, needing no teacher."""

from typing import ClassVar

from torch import Tensor

from workbench.embeddings import Comparison
from workbench.losses.base import Convention, Loss
from workbench.losses.contrastive import matched_pairs_cross_entropy


class ClipLoss(Loss):
    """The student's pictures against its texts, both directions averaged, at the student's learnt scale.

    In nats; log B when all pairs look alike, zero when every pair is certain. Paper and release agree.
    """

    name = "clip"
    title = "contrastive task loss"
    paper = "CLIP-KD, section 3.1"
    equation = "½ (mean_k −log p[k,k] + mean_k −log q[k,k])"
    published_weight: ClassVar[dict[Convention, float]] = {"paper": 1.0, "released": 1.0}
    needs_teacher = False

    def __call__(self, comparison: Comparison) -> Tensor:
        logits_BB = comparison.student.scale * comparison.cosines_BB("student", "student")
        return (matched_pairs_cross_entropy(logits_BB) + matched_pairs_cross_entropy(logits_BB.T)) / 2
