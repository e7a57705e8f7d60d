"""Types of the sample sets: a drawn sample, and a zero-shot task."""

import itertools
from dataclasses import dataclass
from typing import Any

from PIL import Image

from workbench.errors import unknown


@dataclass(frozen=True)
class DrawnSample:
    """One image of a sample set with its record, as `write_shards` stores them.

    `record` is the JSON next to the image: "captions" (list of str), "group" (the full captions of images with the same
    group are positives of each other), "class" (the zero-shot class, if the set has a task) and further fields of the
    set.
    """

    key: str
    image: Image.Image
    record: dict[str, Any]


@dataclass(frozen=True)
class ZeroShotTask:
    """Classes with their aliases, and prompt templates with one `{}` for the class name.

    A sample's "class" is the first alias of its class.
    """

    classes: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]

    def class_index(self, name: str) -> int:
        """Index of the class with the alias `name`. Raises ValueError with the closest alias if there is none."""
        for index, aliases in enumerate(self.classes):
            if name in aliases:
                return index
        raise unknown("zero-shot class", name, itertools.chain.from_iterable(self.classes))
