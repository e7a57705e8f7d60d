"""The zero-shot task of the scenes: which two shapes does the picture show?"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from workbench.data.samples.sample import ZeroShotTask
from workbench.data.samples.scenes.attributes import COLORS, SHAPES, SIZES, TEXTURES

# What is said of a scene: full captions in several phrasings, shorter ones, and the key of what they mean.
#
# Captions are lower-case words and single spaces, nothing else; the longest has 17 words.

# How a relation reads in each place of a phrasing.
_PLACES = {
    "left of": {"of": "to the left of", "beside": "left of", "its": "on its left", "end": "on the left"},
    "right of": {"of": "to the right of", "beside": "right of", "its": "on its right", "end": "on the right"},
    "above": {"of": "above", "beside": "over", "its": "above it", "end": "at the top"},
    "below": {"of": "below", "beside": "under", "its": "below it", "end": "at the bottom"},
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# `one` lies in the named relation to `two`; `back_` words say how `two` lies to `one`.
PHRASINGS = (
    "{one} {of} {two}",
    "{one} {beside} {two}",
    "{one} and {back_its} {two}",
    "{one} {end} and {two} {back_end}",
)

_WORDS_OF = {
    relation: places | {f"back_{name}": text for name, text in _PLACES[OPPOSITE[relation]].items()}
    for relation, places in _PLACES.items()
}


@dataclass(frozen=True)
class Thing:
    """One object, in words."""

    size: str
    colour: str
    texture: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.texture} {self.shape}"


def full(first: Thing, relation: str, second: Thing, phrasing: int, mirrored: bool) -> str:
    """Everything about the scene. `mirrored` says it from the second object's side, which is as true."""
    if mirrored:
        first, relation, second = second, OPPOSITE[relation], first
    return PHRASINGS[phrasing].format(one=f"a {first}", two=f"a {second}", **_WORDS_OF[relation])


def without_size_and_texture(first: Thing, relation: str, second: Thing, mirrored: bool) -> str:
    """Colours, shapes and the relation only."""
    if mirrored:
        first, relation, second = second, OPPOSITE[relation], first
    one, two = (f"{_article(thing.colour)} {thing.colour} {thing.shape}" for thing in (first, second))
    return f"{one} {_PLACES[relation]['of']} {two}"


def shapes_only(first: str, second: str) -> str:
    """The two shapes and nothing else, without the leading article: "circle and a square"."""
    return f"{first} and {'another' if first == second else 'a'} {second}"


def meaning(first: Thing, relation: str, second: Thing) -> str:
    """The key that two scenes share exactly when every full caption of one is true of the other.

    "A right of B" is "B left of A" and "A below B" is "B above A", so only left and above are written.
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


TEMPLATES = ("a {}", "{}")


@cache
def zero_shot() -> ZeroShotTask:
    """36 classes, the unordered pairs of shapes; both orders of a pair are its aliases."""
    classes = []
    for first, second in itertools.combinations_with_replacement(SHAPES, 2):
        classes.append(tuple(dict.fromkeys((shapes_only(first, second), shapes_only(second, first)))))
    return ZeroShotTask(tuple(classes), TEMPLATES)


@cache
def class_name(first: str, second: str) -> str:
    """The first alias of the class that a picture of these two shapes belongs to."""
    task = zero_shot()
    return task.classes[task.class_index(shapes_only(first, second))][0]


def zero_shot_class(record: Mapping[str, Any]) -> int:
    """The index of a picture's class, from its record."""
    return zero_shot().class_index(record["class"])
