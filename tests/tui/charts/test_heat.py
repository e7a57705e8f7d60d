import numpy as np
from rich.style import Style

from workbench.tui.charts.heat import HIGH, LOW, MINUS, PLUS, colors, fitted, half_blocks


def test_colors_span_the_values_and_a_difference_is_signed() -> None:
    found = colors(np.array([[0.0, 2.0], [1.0, 2.0]]), is_difference=False)
    assert found[0, 0].tolist() == list(LOW)
    assert found[0, 1].tolist() == list(HIGH)
    apart = colors(np.array([[-2.0, 0.0], [0.5, 2.0]]), is_difference=True)
    assert apart[0, 0].tolist() == list(MINUS)
    assert apart[1, 1].tolist() == list(PLUS)
    assert apart[0, 1].max() < 40


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
