"""Images drawn with half-block characters. Shape letters: H rows and W columns of pixels, C = 3 color channels."""

from functools import lru_cache

import numpy as np
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from workbench.tui.charts.chart import Canvas
from workbench.tui.charts.shades import Pixels
from workbench.tui.rows import clipped

GAP = 2  # cells between two images
HALF = "▀"
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


class Images(Canvas):
    """One or two images with titles, next to each other or stacked, whichever shows them larger."""

    DEFAULT_CSS = """
    Images { padding: 0 1; background: $background; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id)
        self._images: dict[str, Pixels] = {}

    def show(self, images: dict[str, Pixels]) -> None:
        """Show these images, uint8 [H, W, C] each, by their titles."""
        self._images = images
        self.redraw()

    def strips(self, base: Style) -> list[Strip]:
        width, height = self.content_size
        if not self._images or width < 1 or height < 2:
            return []
        count = len(self._images)
        across, below = ((width - GAP * (count - 1)) // count, height - 1), (width, height // count - 1)
        is_across = min(across[0], 2 * across[1]) >= min(below[0], 2 * below[1])
        columns, rows = (max(1, size) for size in (across if is_across else below))
        drawn = [_titled(title, image, columns, rows, base) for title, image in self._images.items()]
        if is_across:
            gap = Segment(" " * GAP, base)
            lines = [[segment for row in both for segment in (*row, gap)][:-1] for both in zip(*drawn, strict=True)]
        else:
            lines = [line for image in drawn for line in image]
        return [Strip(line).adjust_cell_length(width, base) for line in lines]


def _titled(title: str, image: Pixels, columns: int, rows: int, base: Style) -> list[list[Segment]]:
    """The title and exactly ``rows`` rows of exactly ``columns`` cells."""
    found = half_blocks(fitted(image, columns, 2 * rows), base)
    lines = [[*line, Segment(" " * (columns - len(line)), base)] for line in found]
    lines += [[Segment(" " * columns, base)]] * (rows - len(lines))
    return [[Segment(clipped(title, columns), base + Style(bold=True))], *lines]


def fitted(pixels_HWC: Pixels, width: int, height: int) -> Pixels:
    """The image scaled to fit into ``width`` × ``height`` pixels, with its aspect ratio."""
    from PIL import Image

    own_height, own_width, _ = pixels_HWC.shape
    scale = min(width / own_width, height / own_height)
    # Unlike with `ImageOps.contain`, a very long image keeps at least one pixel in its short side.
    size = (min(width, max(1, round(own_width * scale))), min(height, max(1, round(own_height * scale))))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels_HWC).resize(size, resampling))
