"""One picture or two with a line above each, as large as there is room for."""

from typing import NamedTuple

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from workbench.tui.charts.half_blocks import Pixels, half_blocks
from workbench.tui.rows import clipped

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
