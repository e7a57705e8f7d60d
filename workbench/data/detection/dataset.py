"""The protocol ``DetectionDataset``: images with the box, class and mask of each object.

A mask is a compressed run-length encoding of pycocotools, ``{"size": [H, W], "counts": bytes}``: some hundred bytes, so
that the annotations of a whole data set stay in memory while images and decoded masks are made when they are needed.

Shape letters: M objects of an image · H, W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.data.unusable import Reading

COCO_AREAS_PX = (32.0**2, 96.0**2)  # COCO's limits between small, medium and large objects
RunLengths = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        boxes_M4: float64, x0, y0, x1, y1 in pixels.
        labels_M: int64, index into the categories.
        areas_M: float64, of the masks in pixels (of the boxes if the data have no masks).
        is_crowd_M: bool: regions of many objects, which are not trained on and in which detections are not counted.
        masks: of each object; empty if the data have no masks.
    """

    boxes_M4: NDArray[np.float64]
    labels_M: NDArray[np.int64]
    areas_M: NDArray[np.float64]
    is_crowd_M: NDArray[np.bool_]
    masks: Sequence[RunLengths] = ()

    def __len__(self) -> int:
        return len(self.labels_M)


class DetectionDataset(Protocol):
    """Images with objects in a fixed order.

    Attributes:
        name: the SPEC, with split and number.
        fingerprint: hexadecimal hash of the content, without the images' pixels.
        categories: names of the classes.
        unseen: indices of categories that are not trained on; for open-vocabulary detection.
        templates: prompts with one ``{}`` for a category's name.
        has_masks: whether every object has a mask.
        areas_px: mask areas between small and medium, and medium and large objects.
        reading: what was left out.
    """

    name: str
    fingerprint: str
    categories: tuple[str, ...]
    unseen: frozenset[int] = frozenset()
    templates: tuple[str, ...] = ("a photo of a {}.",)
    has_masks: bool = True
    areas_px: tuple[float, float] = COCO_AREAS_PX
    reading: Reading = Reading()

    def __len__(self) -> int:
        """Number of images, at least 1."""

    def image(self, index: int) -> Image.Image:
        """One image, RGB. Raises ``ImageError`` if it cannot be decoded."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image in pixels, without decoding it."""

    def objects(self, index: int) -> Objects:
        """The objects of an image, from memory."""


def check_installed() -> None:
    """Raise ValueError with the command that installs what detection needs."""
    if find_spec("pycocotools") is None:
        raise ValueError(
            "masks and COCO's metrics need pycocotools, which is not installed: "
            "pip install 'clip-distillation-workbench[dense]'"
        )


def encode_masks(masks_MHW: NDArray[np.bool_]) -> list[RunLengths]:
    """The run lengths of each mask."""
    from pycocotools import mask

    # pycocotools reads columns first.
    encoded: list[RunLengths] = mask.encode(np.asfortranarray(masks_MHW.transpose(1, 2, 0), dtype=np.uint8))
    return encoded


def decode_masks(masks: Sequence[RunLengths], height: int, width: int) -> NDArray[np.bool_]:
    """bool [M, H, W]."""
    from pycocotools import mask

    if not masks:
        return np.zeros((0, height, width), np.bool_)
    decoded: NDArray[np.bool_] = mask.decode(list(masks)).transpose(2, 0, 1).astype(np.bool_)
    return decoded
