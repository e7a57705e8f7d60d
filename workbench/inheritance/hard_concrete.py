"""The hard concrete distribution: a random gate between 0 and 1 that is often exactly one of them, and can be learnt.

Louizos et al., "Learning sparse neural networks through L0 regularization" (2018), with TinyCLIP's numbers.
"""

import math

import torch
from torch import Tensor

BETA = 2 / 3
LOW, HIGH = -0.1, 1.1  # the sigmoid is stretched to this interval before it is cut to [0, 1]
START = 10.0  # of log α
LIMIT = math.log(100)  # log α stays within ± this
EPSILON = 1e-6  # keeps the logit of the noise finite


def draw(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """z = clip(1.2·σ((logit u + log α)/β) − 0.1, 0, 1), for u uniform between 0 and 1."""
    concrete = torch.sigmoid((torch.logit(uniform, EPSILON) + log_alpha) / BETA)
    return (concrete * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α + β·ln 11)."""
    return torch.sigmoid(log_alpha + BETA * math.log(-HIGH / LOW))


def settled(log_alpha: Tensor) -> Tensor:
    """What a gate that stays open is worth once nothing is drawn any more: σ(0.8·log α/β)."""
    return torch.sigmoid(0.8 * log_alpha / BETA)
