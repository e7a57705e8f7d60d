"""The zero-shot task of a sample set: class names and the templates that turn them into prompts."""

import itertools
from dataclasses import dataclass

from workbench.config.nearest import unknown


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
