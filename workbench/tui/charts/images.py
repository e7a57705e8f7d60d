"""One picture or two with a line above each, as large as there is room for."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from workbench.tui.rows import clipped

# A picture that fills the screen when asked to, and shrinks again.


class Enlarged(Widget):
    """What can be as large as the screen."""

    ALLOW_MAXIMIZE = True

    def action_toggle_maximize(self) -> None:
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)


# Pixels -> characters: two pixels above one another in every one.
#
# Shape letters: H rows and W columns of pixels, C channels red, green and blue.

HALF = "▀"
Pixels = NDArray[np.uint8]
Shade = tuple[int, int, int]


def half_blocks(pixels_HWC: Pixels, base: Style) -> list[list[Segment]]:
    """A row of characters for every two rows of pixels; under an odd last one is the background of ``base``."""
    above, below = pixels_HWC[::2].tolist(), pixels_HWC[1::2].tolist()
    rows = [
        [Segment(HALF, _style(tuple(upper), tuple(lower))) for upper, lower in zip(*both, strict=True)]
        for both in zip(above, below, strict=False)
    ]
    if len(pixels_HWC) % 2:
        rows.append([Segment(HALF, base + Style(color=Color.from_rgb(*shade))) for shade in above[-1]])
    return rows


@lru_cache(maxsize=8192)
def _style(above: Shade, below: Shade) -> Style:
    return Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))


GAP = 2


class Titled(NamedTuple):
    """A picture, uint8 [H, W, C], and what it is."""

    title: str
    pixels_HWC: Pixels


class Pictures(Widget):
    """Side by side or one below the other, whichever shows more of them."""

    DEFAULT_CSS = """
    Pictures { padding: 0 1; background: $background; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pictures: tuple[Titled, ...] = ()
        self._strips: list[Strip] = []
        self._base = Style()

    def show(self, *pictures: Titled) -> None:
        """Draws these from now on."""
        self._pictures = pictures
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        self._strips = []
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        base = self.rich_style
        if not self._strips or base != self._base:  # another theme
            self._base, self._strips = base, self._draw(base)
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.content_size.width, base)

    def _draw(self, base: Style) -> list[Strip]:
        width, height = self.content_size
        if not self._pictures or width < 1 or height < 2:
            return []
        count = len(self._pictures)
        across, below = ((width - GAP * (count - 1)) // count, height - 1), (width, height // count - 1)
        is_across = min(across[0], 2 * across[1]) >= min(below[0], 2 * below[1])
        columns, rows = across if is_across else below
        drawn = [_drawn(one, max(1, columns), max(1, rows), base) for one in self._pictures]
        if is_across:
            gap = [Segment(" " * GAP, base)]
            lines = [[*left, *(gap if right else []), *right] for left, right in _paired(drawn)]
        else:
            lines = [line for picture in drawn for line in picture]
        return [Strip(line).adjust_cell_length(width, base) for line in lines]


def _paired(drawn: list[list[list[Segment]]]) -> list[tuple[list[Segment], list[Segment]]]:
    return list(zip(*drawn, strict=True)) if len(drawn) == 2 else [(line, []) for line in drawn[0]]


def _drawn(picture: Titled, columns: int, rows: int, base: Style) -> list[list[Segment]]:
    """The title and exactly ``rows`` rows of exactly ``columns`` cells."""
    blank = Segment(" " * columns, base)
    found = half_blocks(fitted(picture.pixels_HWC, columns, 2 * rows), base)
    lines = [[*line, Segment(" " * (columns - len(line)), base)] for line in found]
    title = Segment(clipped(picture.title, columns), base + Style(bold=True))
    return [[title], *lines, *([[blank]] * (rows - len(lines)))]


def fitted(pixels_HWC: Pixels, width: int, height: int) -> Pixels:
    """The picture as large as it fits into ``width`` × ``height`` pixels, in its own proportions."""
    from PIL import Image

    own_height, own_width, _ = pixels_HWC.shape
    scale = min(width / own_width, height / own_height)
    size = (min(width, max(1, round(own_width * scale))), min(height, max(1, round(own_height * scale))))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels_HWC).resize(size, resampling))
