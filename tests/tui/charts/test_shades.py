import numpy as np
import pytest

from workbench.tui.charts.shades import DARK_VLAG, colors


@pytest.mark.parametrize(("name", "is_signed"), [("rocket_r", False), ("vlag", True)])
def test_the_maps_are_those_of_the_figures(name: str, is_signed: bool) -> None:
    import seaborn

    values = np.linspace(-1.0, 1.0, 256)[None]
    theirs = 255 * np.array(seaborn.color_palette(name, as_cmap=True)(np.arange(256)))[:, :3]
    assert np.abs(colors(values, (-1.0, 1.0), is_signed=is_signed)[0] - theirs).max() < 4


def test_colors_span_the_limits_and_in_a_dark_theme_nothing_is_dark() -> None:
    values = np.array([[0.0, 0.5, 1.0, 2.0]])
    light, dark = (colors(values, (0.0, 1.0), is_signed=False, is_dark=dark)[0].mean(1) for dark in (False, True))
    assert light[0] > light[1] > light[2] == light[3]  # beyond the limits: the end's color
    assert dark[0] < dark[1] < dark[2]
    signed = colors(np.array([[-1.0, 0.0, 1.0]]), (-1.0, 1.0), is_signed=True, is_dark=True)[0]
    assert "".join(f"{value:02x}" for value in signed[0]) == DARK_VLAG.split()[0]
    assert signed[1].max() < 60
    assert signed[2, 0] > signed[2, 2]  # red: above 0


def test_equal_values_have_a_color() -> None:
    assert colors(np.zeros((2, 2)), (0.0, 0.0), is_signed=False).shape == (2, 2, 3)
