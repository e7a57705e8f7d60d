"""The contrastive cross-entropy that clip and icl share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def matched_pairs_cross_entropy(logits_BB: Tensor) -> Tensor:
    """mean_k −log softmax(row k)[k], in nats: each row should pick its own column."""
    return F.cross_entropy(logits_BB, torch.arange(len(logits_BB), device=logits_BB.device))
