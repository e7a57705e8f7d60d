"""The attributes of objects, the attribute combinations of each split, and the random numbers of an image.

Each random number is a hash of (seed, position) with the output function of SplitMix64 (Steele, Lea and Flood 2014), so
that an image depends neither on its batch nor on the version of numpy.
"""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workbench.errors import unknown
from workbench.randomness import derive_seed

SIZES = ("small", "large")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "black")
TEXTURES = ("plain", "striped", "dotted")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SPLITS = ("train", "teacher", "validation", "test")

RADIUS_PX = (6.4, 9.9)  # half an object's extent, by size
HOLDOUT_SEED = 11  # the first that fulfills what `split_of` documents

# Main tone and accent (stripes, dots) of each color, sRGB, 0-255. The accent is the same hue, darker, so that a texture
# does not turn one color into another.
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


def split_of(color: str, texture: str, shape: str) -> str:
    """The only split ("train", "validation" or "test") with this combination.

    A hash assigns about 70 %, 15 % and 15 %. With this seed, training has every pair of values, and validation and test
    have every single value.
    """
    lot = derive_seed(HOLDOUT_SEED, "scenes combination", color, texture, shape) % 20
    return "train" if lot < 14 else "validation" if lot < 17 else "test"


@cache
def combinations(split: str) -> NDArray[np.int64]:
    """The (color, texture, shape) indices of a split, [K, 3]; "teacher" shares those of "train"."""
    if split not in SPLITS:
        raise unknown("split of the scenes", split, SPLITS)
    wanted = "train" if split == "teacher" else split
    names = itertools.product(COLORS, TEXTURES, SHAPES)
    indices = itertools.product(range(len(COLORS)), range(len(TEXTURES)), range(len(SHAPES)))
    return np.array([triple for triple, named in zip(indices, names, strict=True) if split_of(*named) == wanted])


_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)


def image_seeds(split: str, start: int, count: int) -> NDArray[np.uint64]:
    """Seeds of the images `start` to `start + count` (exclusive) of a split, [N]."""
    seeds = [derive_seed(0, "scenes", split, index) for index in range(start, start + count)]
    return np.array(seeds, dtype=np.uint64)


def bits(seeds_N: NDArray[np.uint64], num: int) -> NDArray[np.uint64]:
    """`num` independent 64-bit words per seed, [N, num]."""
    words = seeds_N[:, None] + np.arange(1, num + 1, dtype=np.uint64) * _STRIDE
    words = (words ^ (words >> np.uint64(30))) * _FIRST_MULTIPLIER
    words = (words ^ (words >> np.uint64(27))) * _SECOND_MULTIPLIER
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def uniforms(seeds_N: NDArray[np.uint64], num: int) -> NDArray[np.float64]:
    """`num` independent numbers in [0, 1) per seed, [N, num]."""
    return (bits(seeds_N, num) >> np.uint64(11)).astype(np.float64) * 2.0**-53  # 53 bits: exact in float64
