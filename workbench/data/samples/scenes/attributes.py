"""Attributes and captions of scenes: the combinations of each split, the random numbers of an image, and its words.

Each random number is a hash of (seed, position) with the output function of SplitMix64 (Steele, Lea and Flood 2014), so
that an image depends neither on its batch nor on the version of numpy. Captions are lower-case words and single spaces;
the longest has 17 words.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workbench.data.dataset import SampleText, ZeroShotTask
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


# The words of a relation for each placeholder of PHRASINGS.
_PLACES = {
    "left of": {"of": "to the left of", "next_to": "left of", "its": "on its left", "end": "on the left"},
    "right of": {"of": "to the right of", "next_to": "right of", "its": "on its right", "end": "on the right"},
    "above": {"of": "above", "next_to": "over", "its": "above it", "end": "at the top"},
    "below": {"of": "below", "next_to": "under", "its": "below it", "end": "at the bottom"},
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# `one` is in the named relation to `two`; `back_` words are the opposite relation, of `two` to `one`.
PHRASINGS = (
    "{one} {of} {two}",
    "{one} {next_to} {two}",
    "{one} and {back_its} {two}",
    "{one} {end} and {two} {back_end}",
)

_WORDS_OF = {
    relation: places | {f"back_{name}": text for name, text in _PLACES[OPPOSITE[relation]].items()}
    for relation, places in _PLACES.items()
}


@dataclass(frozen=True)
class SceneObject:
    """One object, in words; the fields are the keys of the published JSON."""

    size: str
    colour: str
    texture: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.texture} {self.shape}"


def full(first: SceneObject, relation: str, second: SceneObject, phrasing: int, mirrored: bool) -> str:
    """A caption with all attributes. `mirrored` swaps the objects and inverts the relation: the same meaning."""
    if mirrored:
        first, relation, second = second, OPPOSITE[relation], first
    return PHRASINGS[phrasing].format(one=f"a {first}", two=f"a {second}", **_WORDS_OF[relation])


def without_size_and_texture(first: SceneObject, relation: str, second: SceneObject, mirrored: bool) -> str:
    """A caption with colors, shapes and the relation only."""
    if mirrored:
        first, relation, second = second, OPPOSITE[relation], first
    one, two = (f"{_article(thing.colour)} {thing.colour} {thing.shape}" for thing in (first, second))
    return f"{one} {_PLACES[relation]['of']} {two}"


def shapes_only(first: str, second: str) -> str:
    """The two shapes without the leading article: "circle and a square"."""
    return f"{first} and {'another' if first == second else 'a'} {second}"


def meaning(first: SceneObject, relation: str, second: SceneObject) -> str:
    """A key that is equal for two scenes exactly if every full caption of one is true of the other.

    "A right of B" becomes "B left of A", and "A below B" becomes "B above A".
    """
    if relation in ("right of", "below"):
        first, relation, second = second, OPPOSITE[relation], first
    return f"{first} {relation} {second}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _vocabulary() -> tuple[str, ...]:
    lists: list[Iterable[str]] = [SIZES, COLORS, TEXTURES, SHAPES, PHRASINGS, ("a", "an", "and", "another")]
    lists += [places.values() for places in _PLACES.values()]
    words = {word for phrases in lists for phrase in phrases for word in phrase.split()}
    return tuple(sorted(word for word in words if "{" not in word))


WORDS = _vocabulary()


def class_name(first: str, second: str) -> str:
    """The label of an image with these two shapes, in either order."""
    return shapes_only(*sorted((first, second), key=SHAPES.index))


# A prompt names a second object, as every caption does: each color and shape, in each relation twice.
TEMPLATES = tuple(
    f"a {{}} {_PLACES[relation]['of']} {_article(color)} {color} {shape}"
    for relation, color, shape in zip(itertools.cycle(_PLACES), COLORS, itertools.cycle(SHAPES), strict=False)
)


@cache
def zero_shot() -> ZeroShotTask:
    """48 classes, a color and a shape, such as "red star"; those of both objects of an image are correct.

    Pairs of shapes alone would say little of a student: small ones learn color, relation and size first, and retrieve
    more than half of the test images before they know any shape.
    """
    return ZeroShotTask(
        tuple((f"{color} {shape}",) for color in COLORS for shape in SHAPES), TEMPLATES, answers=_named_in_meaning
    )


def _named_in_meaning(text: SampleText) -> tuple[str, ...]:
    """Color and shape of both objects, from the image's group, its :func:`meaning`; one if they are equal."""
    _, color, _, shape, *_, other_color, _, other_shape = text.group.split()
    return tuple(dict.fromkeys((f"{color} {shape}", f"{other_color} {other_shape}")))
