"""Pictures at a working size: scaled down once before they are cropped, so that large ones take less room and time.

That changes what a crop shows a little, and so is a setting of its own (``data.working_size``), applied whether the
pictures are prepared or decoded live. Without it, and for pictures that are no larger, crops are those of the original.
"""

import contextlib
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.unusable import ImageError

# Bytes of a picture -> an upright RGB image, or one line saying why not.

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000  # 192 MB decoded; Pillow itself refuses only above 179 million
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # 16 bits a pixel, whatever Pillow calls it


def decode_image(data: bytes) -> Image.Image:
    """Decodes a JPEG, PNG or WebP as a browser shows it: upright by its EXIF tag, on white where transparent.

    16-bit greys keep their range (Pillow's own conversion clips them). Of an animation the first frame
    counts. The size is checked before the pixels are decoded.

    Raises:
        PictureError: empty, not one of these formats, too large, cut short or damaged.
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
    except Exception as error:  # on damaged files the decoders raise whatever they stumble over
        message = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("cut short or damaged", message) from error


def _upright(image: Image.Image) -> Image.Image:
    if "exif" in image.info:
        with contextlib.suppress(Exception):  # a broken EXIF block says nothing, and spoils no pixels
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        gray_HW = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(gray_HW.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode != "RGB" else image
    picture = image.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


class Scaled(Dataset):
    """A data set whose pictures' shorter sides are at most ``working_size`` pixels."""

    def __init__(self, dataset: Dataset, working_size: int) -> None:
        assert working_size > 0
        self._dataset, self._working_size = dataset, working_size
        self.fingerprint = sha256(f"{dataset.fingerprint} {working_size}".encode()).hexdigest()
        self.describe_like(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        """Reads, decodes and scales one sample; see :class:`~workbench.data.dataset.Dataset`."""
        sample = self._dataset[index]
        return replace(sample, image=scaled(sample.image, self._working_size))

    def text(self, index: int) -> SampleText:
        """One sample without its picture."""
        return self._dataset.text(index)

    def encoded(self, index: int) -> bytes:
        """The picture's file, which is not scaled."""
        return self._dataset.encoded(index)

    def stamp(self) -> str:
        """That of the data that are scaled."""
        return self._dataset.stamp()

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        """Those of the data that are scaled."""
        return self._dataset.tokens(index, caption, tokenizer_id)


def at_working_size(dataset: Dataset, working_size: int) -> Dataset:
    """The data with pictures of that size at most; as they are where it is 0."""
    return Scaled(dataset, working_size) if working_size else dataset


def scaled(image: Image.Image, working_size: int) -> Image.Image:
    """The picture with its shorter side at ``working_size`` pixels (bicubic, antialiased); itself if it is no longer.

    The longer side is rounded, so that the picture keeps its shape to half a pixel.
    """
    shorter = min(image.size)
    if shorter <= working_size:
        return image
    width, height = (max(1, round(side * working_size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
