"""Training crops are distributed as torchvision's, and depend on seed, key and view alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from workbench.data.crops import CropSpec, crop_box, crop_HWC

NUM_DRAWS = 800


def noise_image(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(160, 213), (48, 48)])
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.08, 1.0)])
def test_crops_are_distributed_as_torchvisions(size: tuple[int, int], scale: tuple[float, float]) -> None:
    ours_N4 = np.array([crop_box(0, str(number), 0, size, scale) for number in range(NUM_DRAWS)])
    torch.manual_seed(0)
    drawn = (RandomResizedCrop.get_params(noise_image(size), list(scale), [3 / 4, 4 / 3]) for _ in range(NUM_DRAWS))
    theirs_N4 = np.array([(left, top, left + width, top + height) for top, left, height, width in drawn])

    def statistics(box_N4: np.ndarray) -> dict[str, np.ndarray]:
        left, top, right, bottom = box_N4.T
        return {
            "area": (right - left) * (bottom - top),
            "aspect": (right - left) / (bottom - top),
            "left": left,
            "top": top,
        }

    for name, ours in statistics(ours_N4).items():
        assert ks_2samp(ours, statistics(theirs_N4)[name]).pvalue > 1e-3, name


@given(
    key=st.text(max_size=5),
    view=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: (min(pair), max(pair))),
)
def test_a_crop_lies_within_its_image(key: str, view: int, size: tuple[int, int], scale: tuple[float, float]) -> None:
    left, top, right, bottom = crop_box(0, key, view, size, scale)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_areas_stay_in_the_requested_range() -> None:
    boxes = [crop_box(1, str(number), 3, (640, 480), (0.5, 0.7)) for number in range(500)]
    shares = [(right - left) * (bottom - top) / (640 * 480) for left, top, right, bottom in boxes]
    assert 0.495 < min(shares) < 0.52
    assert 0.68 < max(shares) < 0.705


def test_a_crop_depends_on_seed_key_and_view_alone() -> None:
    crop = crop_box(0, "a", 0, (640, 480))
    assert crop == crop_box(0, "a", 0, (640, 480)) == (17, 4, 637, 475)
    others = [crop_box(1, "a", 0, (640, 480)), crop_box(0, "b", 0, (640, 480)), crop_box(0, "a", 1, (640, 480))]
    assert crop not in others


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (7, 3000), (2000, 30)])
def test_a_strip_gets_torchvisions_centered_crop(size: tuple[int, int]) -> None:
    top, left, height, width = RandomResizedCrop.get_params(noise_image(size), [0.9, 1.0], [3 / 4, 4 / 3])
    assert crop_box(0, "a", 0, size) == (left, top, left + width, top + height)


def test_a_full_crop_at_the_right_size_is_the_image() -> None:
    image = noise_image((48, 48))
    np.testing.assert_array_equal(crop_HWC(image, 48, (0, 0, 48, 48)), np.asarray(image))


def test_a_crop_equals_torchvisions() -> None:
    """Within a gray level but at the edge: there Pillow's box sees the pixels outside."""
    image = noise_image((160, 120)).resize((640, 480), Image.Resampling.BICUBIC)
    ours_HWC = crop_HWC(image, 48, (64, 32, 448, 416))
    reference = image.crop((64, 32, 448, 416)).resize((48, 48), Image.Resampling.BICUBIC)
    error_HWC = np.abs(ours_HWC.astype(int) - np.asarray(reference))
    assert error_HWC[2:-2, 2:-2].max() <= 1


def test_a_spec_crops_as_its_parts_do() -> None:
    image = noise_image((64, 48))
    box = crop_box(3, "a", 2, image.size, (0.5, 0.7))
    np.testing.assert_array_equal(
        CropSpec(seed=3, scale=(0.5, 0.7), image_size=24).cropped_HWC(image, "a", 2), crop_HWC(image, 24, box)
    )
