"""The zero-shot task of the scenes: which two shapes does the picture show?"""

import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any

from workbench.data.samples.scenes.attributes import SHAPES
from workbench.data.samples.scenes.captions import shapes_only
from workbench.data.samples.zero_shot import ZeroShotTask

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
