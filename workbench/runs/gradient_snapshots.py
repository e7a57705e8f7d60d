"""Snapshots of the per-loss gradients of a run: norms, shares and pairwise cosine similarities.

Shape letter: K losses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Arrays, Metadata, read_snapshot_history, read_snapshots, strings, write_snapshot

Place = Literal["image", "text", "image_tower", "text_tower"]
PLACES: tuple[Place, ...] = get_args(Place)
KIND = "gradients"


@dataclass(frozen=True, eq=False)
class Gradients:
    """Inner products of the weighted losses' gradients after ``step`` steps, at four places.

    The places are the raw image and text embeddings, and the weights of the image and of the text tower. Norms, shares
    and cosines follow from inner products, and inner products of two places add up to those of their union.

    Args:
        losses: the K active losses.
        products: float64 [K, K] for every place; zero for a loss without gradient there.
    """

    step: int
    losses: tuple[str, ...]
    products: Mapping[Place, NDArray[np.float64]]

    def norm_K(self, *places: Place) -> NDArray[np.float64]:
        """[K]: norm of each loss's weighted gradient over these places."""
        norm_K: NDArray[np.float64] = np.sqrt(np.diag(self._sum_KK(places)))
        return norm_K

    @property
    def tower_norm_K(self) -> NDArray[np.float64]:
        """[K]: norm of each loss's weighted gradient with respect to all tower weights."""
        return self.norm_K("image_tower", "text_tower")

    @property
    def share_K(self) -> NDArray[np.float64]:
        """[K]: each loss's share of the sum of those norms; zeros if all norms are zero."""
        norm_K = self.tower_norm_K
        total = norm_K.sum()
        return norm_K / total if total else norm_K

    @property
    def tower_cosine_KK(self) -> NDArray[np.float64]:
        """[K, K]: cosine of each pair of losses' gradients with respect to all tower weights, in [-1, 1].

        0 if one of the gradients is zero.
        """
        return self._cosine_KK("image_tower", "text_tower")

    @property
    def embedding_cosine_KK(self) -> NDArray[np.float64]:
        """[K, K]: the same with respect to the raw embeddings of both modalities."""
        return self._cosine_KK("image", "text")

    def _cosine_KK(self, *places: Place) -> NDArray[np.float64]:
        sum_KK = self._sum_KK(places)
        square_K = np.diag(sum_KK)
        bound_KK = np.sqrt(np.outer(square_K, square_K))
        return np.divide(sum_KK, bound_KK, out=np.zeros_like(sum_KK), where=bound_KK > 0).clip(-1, 1)

    def _sum_KK(self, places: tuple[Place, ...]) -> NDArray[np.float64]:
        sum_KK: NDArray[np.float64] = np.sum([self.products[place] for place in places], axis=0)
        return sum_KK


@dataclass(frozen=True)
class GradientSnapshots:
    """The gradients of a run by step, and the number of unreadable files."""

    gradients: list[Gradients]
    num_skipped: int


def write_gradients(run: RunDirectory, gradients: Gradients) -> Path:
    """Write one snapshot; replaces one of the same step.

    Raises:
        ValueError: a gradient is not finite.
        OSError: it cannot be written; an earlier file is intact.
    """
    arrays: Arrays = {place: gradients.products[place] for place in PLACES}
    return write_snapshot(run, KIND, gradients.step, arrays, {"losses": json.dumps(gradients.losses)})


def read_gradients(run: RunDirectory) -> GradientSnapshots:
    """All snapshots of the run's own gradients. Unreadable files are counted, not raised."""
    return GradientSnapshots(*read_snapshots(run, KIND, _gradients))


def read_gradient_history(run: RunDirectory) -> GradientSnapshots:
    """The same including the run's ancestors, up to its current step."""
    return GradientSnapshots(*read_snapshot_history(run, KIND, _gradients))


def _gradients(step: int, arrays: Arrays, metadata: Metadata) -> Gradients:
    losses = strings(metadata["losses"])
    products: dict[Place, NDArray[np.float64]] = {place: arrays[place] for place in PLACES}
    if any(products_KK.shape != (len(losses), len(losses)) for products_KK in products.values()):
        raise ValueError(f"the gradients do not match their {len(losses)} losses")
    if any((np.diag(products_KK) < 0).any() for products_KK in products.values()):
        raise ValueError("a squared norm is negative")
    return Gradients(step, losses, products)
