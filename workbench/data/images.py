"""Decodes images, scales them to a working size, and crops them for evaluation.

``data.working_size`` scales large images down before they are cropped, which saves disk and time. It changes crops
slightly, and applies in the same way to cached images and live decoding. 0 and smaller images: no change.

Shape letters: H, W pixels · C color channels.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.data.crops import Pixels, pixels_HWC
from workbench.data.dataset import Dataset, DatasetView, Sample
from workbench.data.unusable import ImageError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000  # 192 MB decoded; Pillow itself refuses only above 179 million
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # 16 bits a pixel, whatever Pillow calls it


def decode_image(data: bytes) -> Image.Image:
    """Decodes a JPEG, PNG or WebP as RGB: rotated by its EXIF tag, transparency on white, first frame of an animation.

    16-bit grayscale keeps its range (Pillow's own conversion clips it). The size is checked before decoding.

    Raises:
        ImageError: empty, another format, too large, truncated or damaged.
    """
    if not data:
        raise ImageError("empty file", "a file of 0 bytes")
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError("too many pixels", f"{width} x {height} pixels, where at most {MAX_PIXELS} are decoded")
        image.load()
        return _rgb(_upright(image))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels", f"too many pixels: at most {MAX_PIXELS} are decoded") from error
    except UnidentifiedImageError as error:
        message = f"no JPEG, PNG or WebP (its {len(data)} bytes start with {data[:16]!r})"
        raise ImageError("no JPEG, PNG or WebP", message) from error
    except Exception as error:  # decoders raise many types on damaged files
        message = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("cut short or damaged", message) from error


def _upright(image: Image.Image) -> Image.Image:
    if "exif" in image.info:
        with contextlib.suppress(Exception):  # a broken EXIF block does not affect the pixels
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        gray_HW = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(gray_HW.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode != "RGB" else image
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


class Scaled(DatasetView):
    """A dataset with images whose shorter side is at most ``working_size`` pixels."""

    def __init__(self, dataset: Dataset, working_size: int) -> None:
        assert working_size > 0
        super().__init__(dataset)
        self._working_size = working_size
        # Part of the fingerprint, unlike data.prepare: a working size changes pixels.
        self.fingerprint = sha256(f"{dataset.fingerprint} {working_size}".encode()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return replace(sample, image=scaled(sample.image, self._working_size))

    @property
    def shard_sizes(self) -> Sequence[Sequence[int]]:
        return self._dataset.shard_sizes

    def probed(self, count: int) -> Sequence[int]:
        return self._dataset.probed(count)

    def will_need(self, samples: range) -> None:
        self._dataset.will_need(samples)


def at_working_size(dataset: Dataset, working_size: int) -> Dataset:
    """The dataset scaled to the working size; unchanged if that is 0."""
    return Scaled(dataset, working_size) if working_size else dataset


def scaled(image: Image.Image, working_size: int) -> Image.Image:
    """Scales the shorter side to ``working_size`` pixels (bicubic, antialiased); smaller images are unchanged.

    The longer side is rounded to a pixel.
    """
    shorter = min(image.size)
    if shorter <= working_size:
        return image
    width, height = (max(1, round(side * working_size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


MAX_ASPECT = 16


FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def evaluation_HWC(
    image: Image.Image, image_size: int, mode: str = "shortest", interpolation: str = "bicubic"
) -> Pixels:
    """open_clip's evaluation transform, to a square of uint8.

    Args:
        mode: "shortest" resizes the shorter side to ``image_size`` and crops the center, "squash" resizes both sides.
        interpolation: "bicubic" or "bilinear", antialiased.
    """
    resample = FILTERS[interpolation]
    if mode == "squash":
        return pixels_HWC(image.resize((image_size, image_size), resample))
    image = _crop_extreme_aspect(image)
    width, height = (int(image_size * side / min(image.size)) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    resized = image.resize((width, height), resample)
    return pixels_HWC(resized.crop((left, top, left + image_size, top + image_size)))


def _crop_extreme_aspect(image: Image.Image) -> Image.Image:
    """The middle of a very long image; resizing its ends would be slow, and the center crop drops them anyway."""
    longest = MAX_ASPECT * min(image.size)
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if max(image.size) <= longest else image.crop((left, top, left + width, top + height))
