"""The GD weight λ that gives GD the gradient norm of CLIP's loss, by temperature and convention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.embeddings import Embeddings
from workbench.losses.base import Convention
from workbench.losses.registry import build_loss
from workbench.randomness import derive_seed


@dataclass(frozen=True, eq=False)
class GdWeights:
    """λ_GD at N scales 1/τ by convention, float64 [N]: GD's gradient at the image embeddings then has CLIP's norm."""

    scale_N: NDArray[np.float64]
    weights: dict[str, NDArray[np.float64]]


def gd_weights(scales: Sequence[float], num_pairs: int = 128, width: int = 64, seed: int = 0) -> GdWeights:
    """The weights at each scale, for a student and a teacher with the same scale, on random float64 embeddings.

    The student is the teacher plus noise, as a partly trained student.
    """
    weights = {
        convention: np.array([_weight(convention, scale, num_pairs, width, seed) for scale in scales])
        for convention in get_args(Convention)
    }
    return GdWeights(np.array(scales, dtype=np.float64), weights)


def _weight(convention: Convention, scale: float, num_pairs: int, width: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(derive_seed(seed, "gd weights"))
    text_BD, image_noise_BD, one_BD, other_BD = torch.randn(
        4, num_pairs, width, generator=generator, dtype=torch.float64
    )
    scale_0d = torch.tensor(scale, dtype=torch.float64)
    teacher = Embeddings.from_raw(text_BD + 0.5 * image_noise_BD, text_BD, scale_0d)
    image_BD = (teacher.image_BD + 0.1 * one_BD).requires_grad_()
    student = Embeddings.from_raw(image_BD, teacher.text_BD + 0.1 * other_BD, scale_0d)
    norms = [
        float(torch.autograd.grad(loss(student, teacher), image_BD, retain_graph=True)[0].norm())
        for loss in (build_loss("clip"), build_loss("gd", convention=convention))
    ]
    return norms[0] / norms[1]
