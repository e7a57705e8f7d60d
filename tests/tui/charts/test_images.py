import numpy as np
from rich.style import Style

from workbench.tui.charts.images import fitted, half_blocks


def test_each_character_shows_two_pixels() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(3, 2, 3)
    rows = half_blocks(pixels, Style(bgcolor="#123456"))
    assert len(rows) == 2
    upper, lower = rows[0][1].style.color, rows[0][1].style.bgcolor
    assert tuple(upper.triplet) == tuple(pixels[0, 1])
    assert tuple(lower.triplet) == tuple(pixels[1, 1])
    assert tuple(rows[1][0].style.color.triplet) == tuple(pixels[2, 0])
    assert rows[1][0].style.bgcolor.triplet.hex == "#123456"


def test_an_image_keeps_its_aspect_ratio_and_fills_one_side() -> None:
    tall = np.zeros((60, 20, 3), dtype=np.uint8)
    assert fitted(tall, 40, 30).shape == (30, 10, 3)
    assert fitted(tall, 5, 30).shape == (15, 5, 3)
    assert fitted(np.zeros((4, 8, 3), dtype=np.uint8), 32, 64).shape == (16, 32, 3)
