import pytest
from textual.color import Color

from workbench.figures.style import KNOWN, OTHERS
from workbench.tui.app import THEMES
from workbench.tui.contrast import LEAST, contrast, readable

COLORS = (*KNOWN.values(), *OTHERS)


def test_the_contrast_ratio_is_that_of_the_guidelines() -> None:
    assert contrast(Color.parse("black"), Color.parse("white")) == pytest.approx(21)
    assert contrast(Color.parse("#777777"), Color.parse("white")) == pytest.approx(4.48, abs=0.01)  # a known value


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_color_of_the_figures_can_be_read_on_every_theme(theme) -> None:
    found = [readable(color, theme.surface) for color in COLORS]
    assert all(contrast(Color.parse(color), Color.parse(theme.surface)) >= LEAST for color in found)
    assert len(set(found)) == len(set(COLORS))  # and still told from the others


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_text_of_every_theme_can_be_read(theme) -> None:
    for name in ("primary", "accent", "warning", "error", "success", "foreground"):
        for ground in (theme.background, theme.surface):
            assert contrast(Color.parse(getattr(theme, name)), Color.parse(ground)) >= LEAST, name


def test_what_can_be_read_already_stays() -> None:
    assert readable("#222222", "#FAFAFA") == "#222222"
