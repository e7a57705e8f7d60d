"""How each loss pulls at the student, now and then in a run.

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
    """The gradients of the weighted losses after ``step`` steps, as their inner products at four places.

    The places are the raw image and text embeddings, and the weights of the image and of the text tower. Inner products
    are all that norms, shares and cosines need, and those of two places add up to those of both together.

    Args:
        losses: the K losses that were on.
        products: float64 [K, K] for every place; a loss that does not reach a place has zeros there.
    """

    step: int
    losses: tuple[str, ...]
    products: Mapping[Place, NDArray[np.float64]]

    def norm_K(self, *places: Place) -> NDArray[np.float64]:
        """The norm of each loss's weighted gradient at these places together."""
        norm_K: NDArray[np.float64] = np.sqrt(np.diag(self._sum_KK(places)))
        return norm_K

    @property
    def tower_norm_K(self) -> NDArray[np.float64]:
        """The norm of each loss's weighted gradient with respect to all tower weights."""
        return self.norm_K("image_tower", "text_tower")

    @property
    def share_K(self) -> NDArray[np.float64]:
        """Each loss's part of the sum of those norms; zeros where no loss has any."""
        norm_K = self.tower_norm_K
        total = norm_K.sum()
        return norm_K / total if total else norm_K

    @property
    def tower_cosine_KK(self) -> NDArray[np.float64]:
        """The cosine between any two losses' gradients with respect to all tower weights, in [-1, 1].

        It is undefined, and 0 here, where one of the gradients is zero.
        """
        return self._cosine_KK("image_tower", "text_tower")

    @property
    def embedding_cosine_KK(self) -> NDArray[np.float64]:
        """The same with respect to the raw embeddings of both modalities."""
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
    """The gradients of a run in the order of their steps, and how many files could not be understood."""

    gradients: list[Gradients]
    num_skipped: int


def write_gradients(run: RunDirectory, gradients: Gradients) -> Path:
    """Write one snapshot, in place of any of the same step.

    Raises:
        ValueError: a gradient is not finite.
        OSError: it cannot be written; what was there before is intact.
    """
    arrays: Arrays = {place: gradients.products[place] for place in PLACES}
    return write_snapshot(run, KIND, gradients.step, arrays, {"losses": json.dumps(gradients.losses)})


def read_gradients(run: RunDirectory) -> GradientSnapshots:
    """Every snapshot of the run's own gradients. Files that are torn or foreign are counted, never raised."""
    return GradientSnapshots(*read_snapshots(run, KIND, _gradients))


def read_gradient_history(run: RunDirectory) -> GradientSnapshots:
    """The same for a run and what it was forked from, up to the step that it has come to."""
    return GradientSnapshots(*read_snapshot_history(run, KIND, _gradients))


def _gradients(step: int, arrays: Arrays, metadata: Metadata) -> Gradients:
    losses = strings(metadata["losses"])
    products: dict[Place, NDArray[np.float64]] = {place: arrays[place] for place in PLACES}
    if any(products_KK.shape != (len(losses), len(losses)) for products_KK in products.values()):
        raise ValueError(f"the gradients do not fit their {len(losses)} losses")
    if any((np.diag(products_KK) < 0).any() for products_KK in products.values()):
        raise ValueError("a square norm is below 0")
    return Gradients(step, losses, products)
