"""Random unit embeddings in float64, of a student and of its teacher."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings

Make = Callable[..., Embeddings]


@pytest.fixture
def embeddings() -> Make:
    """``embeddings(seed, num_pairs, width, scale)``; equal arguments give equal embeddings, leaves with gradients."""
    return _embeddings


def _embeddings(seed: int, num_pairs: int = 6, width: int = 5, scale: float = 14.3) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image_BD, text_BD = (
        F.normalize(torch.randn(num_pairs, width, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
        for _ in range(2)
    )
    return Embeddings(image_BD, text_BD, torch.tensor(scale, dtype=torch.float64, requires_grad=True))


class BruteForce:
    """The equations once more, as loops over numbers: an oracle that shares no code with the package."""

    @staticmethod
    def log_affinity(anchor_BD: Tensor, other_BD: Tensor, scale: float) -> list[list[float]]:
        """log softmax_b(scale · anchor[k]·other[b]), a row for every anchor k."""
        table = []
        for anchor in anchor_BD.tolist():
            logits = [scale * sum(a * o for a, o in zip(anchor, other, strict=True)) for other in other_BD.tolist()]
            total = math.log(sum(math.exp(logit) for logit in logits))
            table.append([logit - total for logit in logits])
        return table

    @classmethod
    def info_nce(cls, anchor_BD: Tensor, other_BD: Tensor, scale: float) -> float:
        table = cls.log_affinity(anchor_BD, other_BD, scale)
        return sum(-row[k] for k, row in enumerate(table)) / len(table)

    @classmethod
    def kl(cls, target: list[list[float]], ours: list[list[float]]) -> float:
        pairs = [pair for t, o in zip(target, ours, strict=True) for pair in zip(t, o, strict=True)]
        return sum(math.exp(t) * (t - o) for t, o in pairs) / len(target)

    @staticmethod
    def squared_distance(a_BD: Tensor, b_BD: Tensor) -> float:
        """Mean over rows of the squared Euclidean distance."""
        pairs = [pair for a, b in zip(a_BD.tolist(), b_BD.tolist(), strict=True) for pair in zip(a, b, strict=True)]
        return sum((x - y) ** 2 for x, y in pairs) / len(a_BD)


@pytest.fixture
def brute_force() -> type[BruteForce]:
    return BruteForce
