"""Random numbers as a pure function of a picture's seed, for a whole batch of pictures at once.

Each number is a hash of (seed, position), with the output function of SplitMix64 (Steele, Lea and Flood 2014), so
that a picture's numbers depend neither on the batch it is drawn in nor on the version of numpy.
"""

import numpy as np
from numpy.typing import NDArray

from workbench.randomness import derive_seed

_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)


def picture_seeds(split: str, start: int, count: int) -> NDArray[np.uint64]:
    """One seed for each of the pictures `start` to `start + count` of a split, [N]."""
    seeds = [derive_seed(0, "scenes", split, index) for index in range(start, start + count)]
    return np.array(seeds, dtype=np.uint64)


def bits(seeds_N: NDArray[np.uint64], num: int) -> NDArray[np.uint64]:
    """`num` independent 64-bit words for each seed, [N, num]."""
    words = seeds_N[:, None] + np.arange(1, num + 1, dtype=np.uint64) * _STRIDE
    words = (words ^ (words >> np.uint64(30))) * _FIRST_MULTIPLIER
    words = (words ^ (words >> np.uint64(27))) * _SECOND_MULTIPLIER
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def uniforms(seeds_N: NDArray[np.uint64], num: int) -> NDArray[np.float64]:
    """`num` independent numbers in [0, 1) for each seed, [N, num]."""
    return (bits(seeds_N, num) >> np.uint64(11)).astype(np.float64) * 2.0**-53
