import matplotlib
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from workbench.figures.style import KNOWN, OTHERS, marker, palette, style


def luminance(color: str) -> float:
    """WCAG's relative luminance, which color blindness leaves nearly alone."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_style_restores_matplotlibs_settings() -> None:
    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["axes.labelsize"] == 9
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before


@given(st.permutations(["teacher", "baseline", "clip-kd"]))
def test_the_demos_models_keep_their_colors_in_any_company(models: list[str]) -> None:
    assert palette(["icl", *models, "fd"]) | KNOWN == palette(["icl", *models, "fd"])


@given(st.lists(st.text(min_size=1), unique=True, max_size=len(OTHERS)))
def test_models_of_one_figure_differ(models: list[str]) -> None:
    assert len(set(palette(models).values())) == len(models)


def test_a_model_alone_has_the_same_color_everywhere() -> None:
    assert palette(["icl"]) == {"icl": palette(["baseline", "icl"])["icl"]}
    assert set(palette([f"model {i}" for i in range(40)]).values()) == set(OTHERS)


def test_colors_show_on_white_and_differ_in_more_than_hue() -> None:
    for color in KNOWN.values():
        assert 1.05 / (luminance(color) + 0.05) > 3  # WCAG's contrast for graphics
    assert marker("baseline") != marker("clip-kd")
