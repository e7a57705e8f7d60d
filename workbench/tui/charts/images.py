"""Images in the terminal, drawn with half-block characters."""

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


class Enlarged(Widget):
    """A widget that can be maximized."""

    ALLOW_MAXIMIZE = True

    def action_toggle_maximize(self) -> None:
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)


# Shape letters: H rows and W columns of pixels, C = 3 color channels. Each character shows two pixels of a column.
HALF = "▀"
Pixels = NDArray[np.uint8]
Shade = tuple[int, int, int]


def half_blocks(pixels_HWC: Pixels, base: Style) -> list[list[Segment]]:
    """A row of characters for every two rows of pixels; an odd last row is completed by the background of ``base``."""
    above, below = pixels_HWC[::2].tolist(), pixels_HWC[1::2].tolist()
    rows = [
        [Segment(HALF, _style(tuple(upper), tuple(lower))) for upper, lower in zip(*both, strict=True)]
        for both in zip(above, below, strict=False)
    ]
    if len(pixels_HWC) % 2:
        rows.append([Segment(HALF, base + Style(color=Color.from_rgb(*shade))) for shade in above[-1]])
    return rows


@lru_cache(maxsize=8192)  # saves creating a Style for every character
def _style(above: Shade, below: Shade) -> Style:
    return Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))


GAP = 2


class TitledImage(NamedTuple):
    """An image, uint8 [H, W, C], with a title."""

    title: str
    pixels_HWC: Pixels


class Images(Widget):
    """One or two images, next to each other or stacked, whichever shows them larger."""

    DEFAULT_CSS = """
    Images { padding: 0 1; background: $background; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._images: tuple[TitledImage, ...] = ()
        self._strips: list[Strip] = []
        self._base = Style()

    def show(self, *images: TitledImage) -> None:
        """Show these images."""
        self._images = images
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        self._strips = []
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of the widget, for Textual."""
        base = self.rich_style
        if not self._strips or base != self._base:  # the theme changed
            self._base, self._strips = base, self._draw(base)
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.content_size.width, base)

    def _draw(self, base: Style) -> list[Strip]:
        width, height = self.content_size
        if not self._images or width < 1 or height < 2:
            return []
        count = len(self._images)
        across, below = ((width - GAP * (count - 1)) // count, height - 1), (width, height // count - 1)
        is_across = min(across[0], 2 * across[1]) >= min(below[0], 2 * below[1])
        columns, rows = across if is_across else below
        drawn = [_drawn(one, max(1, columns), max(1, rows), base) for one in self._images]
        if is_across:
            gap = [Segment(" " * GAP, base)]
            lines = [[*left, *(gap if right else []), *right] for left, right in _paired(drawn)]
        else:
            lines = [line for image in drawn for line in image]
        return [Strip(line).adjust_cell_length(width, base) for line in lines]


def _paired(drawn: list[list[list[Segment]]]) -> list[tuple[list[Segment], list[Segment]]]:
    return list(zip(*drawn, strict=True)) if len(drawn) == 2 else [(line, []) for line in drawn[0]]


def _drawn(image: TitledImage, columns: int, rows: int, base: Style) -> list[list[Segment]]:
    """The title and exactly ``rows`` rows of exactly ``columns`` cells."""
    blank = Segment(" " * columns, base)
    found = half_blocks(fitted(image.pixels_HWC, columns, 2 * rows), base)
    lines = [[*line, Segment(" " * (columns - len(line)), base)] for line in found]
    title = Segment(clipped(image.title, columns), base + Style(bold=True))
    return [[title], *lines, *([[blank]] * (rows - len(lines)))]


def fitted(pixels_HWC: Pixels, width: int, height: int) -> Pixels:
    """The image scaled to fit into ``width`` × ``height`` pixels, with its aspect ratio."""
    from PIL import Image

    own_height, own_width, _ = pixels_HWC.shape
    scale = min(width / own_width, height / own_height)
    size = (min(width, max(1, round(own_width * scale))), min(height, max(1, round(own_height * scale))))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels_HWC).resize(size, resampling))
