"""The attributes of a scene's objects, their colours as drawn, and the combinations that each split may use."""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workbench.config.nearest import unknown
from workbench.randomness import derive_seed

SIZES = ("small", "medium", "large")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
SPLITS = ("train", "teacher", "validation", "test")

RADIUS_PX = (5.6, 7.5, 9.9)  # half an object's extent, by size
HOLDOUT_SEED = 3  # the first under which `split_of` keeps its promises

# Each colour's own tone, and the accent that its stripes, dots and squares are drawn in (sRGB, 0-255).
TONES_RGB: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((216, 32, 38), (255, 196, 190)),
    "orange": ((250, 130, 18), (118, 44, 0)),
    "yellow": ((252, 216, 32), (132, 92, 0)),
    "green": ((34, 158, 62), (196, 242, 190)),
    "blue": ((34, 84, 220), (184, 214, 255)),
    "purple": ((124, 44, 172), (226, 196, 250)),
    "pink": ((255, 126, 190), (172, 22, 104)),
    "brown": ((124, 72, 34), (234, 200, 158)),
}


def split_of(colour: str, texture: str, shape: str) -> str:
    """The one split ("train", "validation" or "test") that may show this combination.

    A hash deals out about 70, 15 and 15 in a hundred; under this seed every pair of values is in training, and every
    single value in validation and test.
    """
    lot = derive_seed(HOLDOUT_SEED, "scenes combination", colour, texture, shape) % 20
    return "train" if lot < 14 else "validation" if lot < 17 else "test"


@cache
def combinations(split: str) -> NDArray[np.int64]:
    """The (colour, texture, shape) indices of a split, [K, 3]; "teacher" shares those of "train"."""
    if split not in SPLITS:
        raise unknown("split of the scenes", split, SPLITS)
    wanted = "train" if split == "teacher" else split
    names = itertools.product(COLOURS, TEXTURES, SHAPES)
    indices = itertools.product(range(len(COLOURS)), range(len(TEXTURES)), range(len(SHAPES)))
    return np.array([triple for triple, named in zip(indices, names, strict=True) if split_of(*named) == wanted])
