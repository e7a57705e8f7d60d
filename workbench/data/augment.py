"""Training crops, evaluation crops and resizing.

Shape letters: H, W pixels · C color channels · B images.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from workbench.randomness import derive_seed

Pixels = npt.NDArray[np.uint8]

ASPECTS = (3 / 4, 4 / 3)
NUM_TRIES = 10
MAX_ASPECT = 16


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
    return _pixels_HWC(image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box))


def evaluation_HWC(image: Image.Image, image_size: int) -> Pixels:
    """open_clip's evaluation transform: shorter side to ``image_size`` (bicubic), then center crop; uint8."""
    image = _crop_extreme_aspect(image)
    width, height = (int(image_size * side / min(image.size)) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return _pixels_HWC(resized.crop((left, top, left + image_size, top + image_size)))


def _crop_extreme_aspect(image: Image.Image) -> Image.Image:
    """The middle of a very long image; resizing its ends would be slow, and the center crop drops them anyway."""
    longest = MAX_ASPECT * min(image.size)
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if max(image.size) <= longest else image.crop((left, top, left + width, top + height))


def _pixels_HWC(image: Image.Image) -> Pixels:
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def stack_BCHW(images_HWC: Sequence[Pixels]) -> Tensor:
    """Images of one size as one uint8 tensor [B, C, H, W]."""
    return torch.from_numpy(np.stack(images_HWC)).permute(0, 3, 1, 2).contiguous()
