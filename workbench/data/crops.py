"""Random crops for training: a function of data seed, sample key and view.

Shape letters: H, W pixels · C color channels.
"""

import math
import random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.randomness import derive_seed

Pixels = npt.NDArray[np.uint8]

ASPECTS = (3 / 4, 4 / 3)
NUM_TRIES = 10


def crop_box(
    seed: int, key: str, view: int, size: tuple[int, int], scale: tuple[float, float] = (0.9, 1.0)
) -> tuple[int, int, int, int]:
    """The box of a training crop, distributed as torchvision's ``RandomResizedCrop`` but a function of the arguments.

    The area is uniform in ``scale`` (shares of the image), the aspect ratio log-uniform from 3:4 to 4:3, the position
    uniform. If ten draws do not fit into the image, it is the largest centered crop of an allowed aspect ratio.

    Args:
        seed: the data seed.
        key: the sample's key.
        view: number of the view.
        size: width and height of the image, in pixels.
        scale: smallest and largest share of the area, from (0, 1].

    Returns:
        Left, top, right and bottom, in pixels.
    """
    draws = random.Random(derive_seed(seed, "crop", key, view))
    full_width, full_height = size
    for _ in range(NUM_TRIES):  # the order of the draws is part of every recorded run: do not change it
        area = full_width * full_height * draws.uniform(*scale)
        aspect = math.exp(draws.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= full_width and 0 < height <= full_height:
            left = draws.randint(0, full_width - width)
            top = draws.randint(0, full_height - height)
            return left, top, left + width, top + height
    return _largest_crop(full_width, full_height)


def _largest_crop(full_width: int, full_height: int) -> tuple[int, int, int, int]:
    width = min(full_width, round(full_height * ASPECTS[1]))
    height = min(full_height, round(full_width / ASPECTS[0]))
    left, top = (full_width - width) // 2, (full_height - height) // 2
    return left, top, left + width, top + height


def crop_HWC(image: Image.Image, image_size: int, box: tuple[int, int, int, int]) -> Pixels:
    """Resizes a box of an RGB image to a square of ``image_size`` pixels (bicubic, antialiased), uint8."""
    return pixels_HWC(image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box))


def pixels_HWC(image: Image.Image) -> Pixels:
    """The pixels of an RGB image, uint8."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


class CropSpec(NamedTuple):
    """Everything about a training crop except image, key and view: the data seed, range of the area, size in pixels."""

    seed: int
    scale: tuple[float, float]
    image_size: int

    def cropped_HWC(self, image: Image.Image, key: str, view: int) -> Pixels:
        """The crop of an image in one of its views, uint8."""
        return crop_HWC(image, self.image_size, crop_box(self.seed, key, view, image.size, self.scale))
