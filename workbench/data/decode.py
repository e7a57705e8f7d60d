"""Bytes of a picture -> an upright RGB image, or one line saying why not."""

import contextlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.data.picture_error import PictureError

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
        raise PictureError("empty file", "a file of 0 bytes")
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PictureError("too many pixels", f"{width} x {height} pixels, where at most {MAX_PIXELS} are decoded")
        image.load()
        return _rgb(_upright(image))
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError("too many pixels", f"too many pixels: at most {MAX_PIXELS} are decoded") from error
    except UnidentifiedImageError as error:
        message = f"no JPEG, PNG or WebP (its {len(data)} bytes start with {data[:16]!r})"
        raise PictureError("no JPEG, PNG or WebP", message) from error
    except Exception as error:  # on damaged files the decoders raise whatever they stumble over
        message = " ".join(str(error).split()) or type(error).__name__
        raise PictureError("cut short or damaged", message) from error


def _upright(image: Image.Image) -> Image.Image:
    if "exif" in image.info:
        with contextlib.suppress(Exception):  # a broken EXIF block says nothing, and spoils no pixels
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        grey_HW = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey_HW.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode != "RGB" else image
    picture = image.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")
