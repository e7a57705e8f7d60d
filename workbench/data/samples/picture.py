"""A drawn picture with what is true of it: what every sample set yields and `write_shards` stores."""

from dataclasses import dataclass
from typing import Any

from PIL import Image


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
