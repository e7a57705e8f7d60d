"""Every kind of image becomes upright RGB, and every broken one an error of one line."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import image_transform
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from workbench.data.batches import stack_BCHW
from workbench.data.images import MAX_PIXELS, decode_image, evaluation_HWC

RAMP_HW = np.linspace(0, 255, 24 * 16).round().astype(np.uint8).reshape(16, 24)
COLOR_HWC = np.stack([RAMP_HW, RAMP_HW[::-1], np.full_like(RAMP_HW, 90)], axis=2)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded_HWC(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_colors_survive(image_format: str) -> None:
    data = encoded(Image.fromarray(COLOR_HWC), image_format, lossless=True)
    np.testing.assert_array_equal(decoded_HWC(data), COLOR_HWC)


def test_a_jpeg_is_decoded_as_pillow_does() -> None:
    data = encoded(Image.fromarray(COLOR_HWC), "JPEG", quality=95)
    np.testing.assert_array_equal(decoded_HWC(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_grays_and_palettes() -> None:
    gray = Image.fromarray(RAMP_HW)
    np.testing.assert_array_equal(decoded_HWC(encoded(gray)), np.repeat(RAMP_HW[:, :, None], 3, axis=2))
    black_and_white = gray.convert("1")
    np.testing.assert_array_equal(decoded_HWC(encoded(black_and_white)), np.asarray(black_and_white.convert("RGB")))
    palette = Image.fromarray(COLOR_HWC).quantize(64)
    np.testing.assert_array_equal(decoded_HWC(encoded(palette)), np.asarray(palette.convert("RGB")))


def test_sixteen_bit_grays_keep_their_range() -> None:
    deep_HW = np.linspace(0, 65535, 24 * 16).astype(np.uint16).reshape(16, 24)
    gray_HWC = decoded_HWC(encoded(Image.fromarray(deep_HW)))
    np.testing.assert_array_equal(gray_HWC[:, :, 0], deep_HW // 256)


def test_a_print_jpeg_in_cmyk() -> None:
    cmyk = Image.fromarray(COLOR_HWC).convert("CMYK")
    error_HWC = decoded_HWC(encoded(cmyk, "JPEG", quality=100, subsampling=0)).astype(int) - COLOR_HWC
    assert np.abs(error_HWC).max() <= 8


def test_transparency_is_white() -> None:
    color = Image.fromarray(COLOR_HWC)
    alpha_HW1 = RAMP_HW[:, ::-1, None] / 255
    color.putalpha(Image.fromarray(RAMP_HW[:, ::-1].copy()))
    expected_HWC = COLOR_HWC * alpha_HW1 + 255 * (1 - alpha_HW1)
    assert np.abs(decoded_HWC(encoded(color)) - expected_HWC).max() <= 1

    gray_HWC = decoded_HWC(encoded(color.convert("LA")))
    assert (gray_HWC[alpha_HW1[:, :, 0] == 0] == 255).all()
    assert (decoded_HWC(encoded(Image.fromarray(RAMP_HW), transparency=0))[RAMP_HW == 0] == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    assert (decoded_HWC(encoded(palette, transparency=0)) == 255).all()
    assert (decoded_HWC(encoded(palette)) == (10, 20, 30)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_rotated_by_exif(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOR_HWC), image_format, exif=exif, lossless=True)
    stored_HWC = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    upright_HWC = {
        1: stored_HWC,
        2: stored_HWC[:, ::-1],
        3: stored_HWC[::-1, ::-1],
        4: stored_HWC[::-1],
        5: stored_HWC.transpose(1, 0, 2),
        6: stored_HWC.transpose(1, 0, 2)[:, ::-1],
        7: stored_HWC.transpose(1, 0, 2)[::-1, ::-1],
        8: stored_HWC.transpose(1, 0, 2)[::-1],
    }[orientation]
    np.testing.assert_array_equal(decoded_HWC(data), upright_HWC)


def test_a_broken_exif_block_is_ignored() -> None:
    """Rotated by 90 degrees, with another tag of a wrong type that Pillow cannot write back."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x0131, 5, 1, 8)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + bytes(4)
    data = encoded(Image.fromarray(COLOR_HWC), "JPEG", exif=exif)
    with pytest.raises(AttributeError):
        ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    stored_HWC = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded_HWC(data), stored_HWC.transpose(1, 0, 2)[:, ::-1])


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    assert decode_image(encoded(Image.new("RGB", size))).size == size


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_refused(image: Callable[..., bytes], image_format: str) -> None:
    data = image(0, (200, 150), image_format)
    decode_image(data)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html>", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"])
def test_other_data_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        decode_image(data)


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "TIFF", "PPM", "EPS"])
def test_other_formats_are_refused(image_format: str) -> None:
    with pytest.raises(ValueError, match="no JPEG, PNG or WebP"):
        decode_image(encoded(Image.fromarray(COLOR_HWC), image_format))


@pytest.mark.parametrize("side", [8001, 14_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    """A PNG that promises a huge image and holds none of it: decoding would fail in another way."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b"")
    with pytest.raises(ValueError, match=f"at most {MAX_PIXELS} are decoded"):
        decode_image(bomb)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), image_format=st.sampled_from(["JPEG", "PNG", "WEBP"]))
@pytest.mark.filterwarnings("ignore")
def test_damage_gives_an_image_or_an_error(data: st.DataObject, image_format: str) -> None:
    content = bytearray(encoded(Image.fromarray(COLOR_HWC), image_format))
    place = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=30))
    content[place : place + len(noise)] = noise
    try:
        mode, complaint = decode_image(bytes(content)).mode, ""
    except ValueError as error:
        mode, complaint = "", str(error)
    assert mode == "RGB" or (complaint and "\n" not in complaint)


def noise_image(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(48, 48), (64, 48), (47, 91), (213, 160), (500, 333), (30, 20), (31, 400)])
@pytest.mark.parametrize("image_size", [48, 32])
def test_the_evaluation_transform_is_torchvisions(size: tuple[int, int], image_size: int) -> None:
    image = noise_image(size)
    reference = Compose([Resize(image_size, InterpolationMode.BICUBIC), CenterCrop(image_size)])(image)
    np.testing.assert_array_equal(evaluation_HWC(image, image_size), np.asarray(reference))


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(50, 40), (33, 90), (20, 20), (300, 31)])
def test_every_resizing_is_open_clips(mode: str, interpolation: str, size: tuple[int, int]) -> None:
    image, plain = noise_image(size), {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    theirs = image_transform(32, is_train=False, resize_mode=mode, interpolation=interpolation, **plain)
    reference_HWC = (theirs(image).permute(1, 2, 0).numpy() * 255).round()
    np.testing.assert_array_equal(evaluation_HWC(image, 32, mode, interpolation), reference_HWC)


@pytest.mark.parametrize("size", [(1, 640), (500, 2)])
def test_a_strip_is_evaluated_at_its_center(size: tuple[int, int]) -> None:
    image = noise_image(size)
    reference = Compose([Resize(48, InterpolationMode.BICUBIC), CenterCrop(48)])(image)
    assert np.abs(evaluation_HWC(image, 48).astype(int) - np.asarray(reference)).max() <= 1


def test_stacking_puts_channels_first() -> None:
    images = [np.asarray(noise_image((8, 8), seed)) for seed in range(3)]
    images_BCHW = stack_BCHW(images)
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.is_contiguous()
    assert images_BCHW.shape == (3, 3, 8, 8)
    assert images_BCHW[1, 2, 4, 5] == images[1][4, 5, 2]
