"""The attributes of a scene's objects, their colours as drawn, and the combinations that each split may use."""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workbench.config.nearest import unknown
from workbench.randomness import derive_seed

SIZES = ("small", "large")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "black")
TEXTURES = ("plain", "striped", "dotted")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SPLITS = ("train", "teacher", "validation", "test")

RADIUS_PX = (6.4, 9.9)  # half an object's extent, by size
HOLDOUT_SEED = 11  # the first under which `split_of` keeps its promises

# Each colour's own tone, and the accent that its stripes and dots are drawn in (sRGB, 0-255): the same hue in shade, so
# that no texture turns one colour into another.
TONES_RGB: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((222, 32, 38), (112, 12, 16)),
    "orange": ((252, 140, 20), (140, 70, 4)),
    "yellow": ((250, 220, 40), (146, 122, 8)),
    "green": ((40, 168, 70), (12, 84, 30)),
    "cyan": ((40, 200, 216), (8, 104, 116)),
    "blue": ((40, 72, 222), (12, 26, 116)),
    "purple": ((140, 48, 186), (68, 16, 96)),
    "black": ((30, 30, 34), (168, 168, 174)),
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
