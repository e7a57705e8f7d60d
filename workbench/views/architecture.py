"""Two shapes of a tower -> what remains of it, layer by layer: TinyCLIP's figure 8 and table 9."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.config.shape import TowerShape


@dataclass(frozen=True, eq=False)
class Remains:
    """Shares of what there was, from 0 to 1; heads and FFN channels for each of K layers."""

    embedding: float
    heads_K: NDArray[np.float64]
    channels_K: NDArray[np.float64]


@dataclass(frozen=True)
class Means:
    """A tower in a row: its width, and what a layer has on average."""

    width: int
    heads: float
    channels: float


def remains(before: TowerShape, after: TowerShape) -> Remains:
    """What is left of each layer. ``after`` has a place for every layer of ``before``; those that went hold nothing."""
    assert before.num_layers == after.num_layers
    return Remains(
        after.width / before.width, _share(after.heads, before.heads), _share(after.channels, before.channels)
    )


def means(shape: TowerShape) -> Means:
    """The means over a tower's layers."""
    return Means(shape.width, float(np.mean(shape.heads)), float(np.mean(shape.channels)))


def _share(after: tuple[int, ...], before: tuple[int, ...]) -> NDArray[np.float64]:
    """0 where there was nothing before."""
    shares: NDArray[np.float64] = np.array(after) / np.maximum(before, 1)
    return shares
