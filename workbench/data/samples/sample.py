"""The zero-shot task of a sample set: class names and the templates that turn them into prompts."""

import itertools
from dataclasses import dataclass
from typing import Any

from PIL import Image

from workbench.errors import unknown

# A drawn picture with what is true of it: what every sample set yields and `write_shards` stores.


@dataclass(frozen=True)
class Picture:
    """One picture of a sample set.

    `record` is the JSON stored beside the image: "captions" (list of str), "group" (the full captions of pictures
    with the same group are true of one another), "class" (the zero-shot class, where the set has a task) and
    whatever else the set documents.
    """

    key: str
    image: Image.Image
    record: dict[str, Any]


@dataclass(frozen=True)
class ZeroShotTask:
    """Classes with their aliases, and prompt templates with one `{}` for the name.

    A sample's "class" in its JSON is the first alias of its class.
    """

    classes: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]

    def class_index(self, name: str) -> int:
        """The index of the class that has `name` among its aliases; ValueError with the nearest when none has."""
        for index, aliases in enumerate(self.classes):
            if name in aliases:
                return index
        raise unknown("zero-shot class", name, itertools.chain.from_iterable(self.classes))
