"""Captions of scenes, their meaning, and the zero-shot task: which two shapes does the image show?

Captions are lower-case words and single spaces; the longest has 17 words.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from workbench.data.samples.sample import ZeroShotTask
from workbench.data.samples.scenes.attributes import COLORS, SHAPES, SIZES, TEXTURES

# The words of a relation for each placeholder of PHRASINGS.
_PLACES = {
    "left of": {"of": "to the left of", "beside": "left of", "its": "on its left", "end": "on the left"},
    "right of": {"of": "to the right of", "beside": "right of", "its": "on its right", "end": "on the right"},
    "above": {"of": "above", "beside": "over", "its": "above it", "end": "at the top"},
    "below": {"of": "below", "beside": "under", "its": "below it", "end": "at the bottom"},
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# `one` is in the named relation to `two`; `back_` words are the opposite relation, of `two` to `one`.
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
    """The first alias of the class of these two shapes."""
    task = zero_shot()
    return task.classes[task.class_index(shapes_only(first, second))][0]


def zero_shot_class(record: Mapping[str, Any]) -> int:
    """The index of an image's class, from its record."""
    return zero_shot().class_index(record["class"])
