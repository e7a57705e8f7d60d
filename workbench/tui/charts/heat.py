"""Pictures drawn with half-block characters: the affinity matrices of student and teacher, and images.

Shape letters: P pairs (rows are images, columns are texts); H rows and W columns of pixels, C = 3 color channels.
"""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from workbench.tui.charts.chart import Canvas
from workbench.tui.rows import clipped
from workbench.views.affinity import AffinityView

GAP = 2  # cells between two pictures
NAMES = ("student", "teacher", "difference")
LEAST_ACROSS, LEAST_DOWN = 12, 6
LOW, HIGH = (16, 20, 24), (240, 228, 66)  # dark to yellow: readable by brightness alone
MINUS, ZERO, PLUS = (86, 180, 233), (24, 28, 34), (230, 159, 0)  # blue: below the teacher, orange: above
CURSOR = (255, 255, 255)
HALF = "▀"
Pixels = NDArray[np.uint8]  # [H, W, C]
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


class Place(NamedTuple):
    """The indices of an image and a text."""

    image: int = 0
    text: int = 0


class Grid(NamedTuple):
    """What is drawn: the first ``num_pairs`` pairs of the matrices ``names``, each entry ``zoom`` × ``zoom`` pixels."""

    num_pairs: int
    names: tuple[str, ...]
    zoom: int

    @property
    def columns(self) -> int:
        return len(self.names) * (self.num_pairs * self.zoom + GAP) - GAP

    @property
    def rows(self) -> int:
        """The height in rows, with the line of names."""
        return 1 + (self.num_pairs * self.zoom + 1) // 2


def grid_of(view: AffinityView, width: int, height: int) -> Grid:
    """The grid for ``width`` × ``height`` terminal cells: all pairs, or as many as fit with three matrices."""
    across = max(LEAST_ACROSS, (width - 2 * GAP) // 3)
    pairs = min(len(view.captions), across, max(LEAST_DOWN, 2 * (height - 1)))
    num_fitting = (width + GAP) // (pairs + GAP) if view.teacher_PP is not None else 1
    names = NAMES[: max(1, num_fitting)]
    room = (width - GAP * (len(names) - 1)) // len(names)
    return Grid(pairs, names, max(1, min(room // pairs, 2 * (height - 1) // pairs)))


def colors(values_PP: NDArray[np.float64], *, is_difference: bool) -> Pixels:
    """RGB colors, uint8 [P, P, 3], scaled from minimum to maximum, or for a difference from 0 to the largest size."""
    if is_difference:
        size = float(np.abs(values_PP).max()) or 1.0
        share_PP = np.sqrt(np.abs(values_PP) / size)  # the square root makes small differences visible
        low, high = np.array(ZERO), np.where(values_PP[..., None] < 0, MINUS, PLUS)
    else:
        least, most = float(values_PP.min()), float(values_PP.max())
        share_PP = (values_PP - least) / (most - least if most > least else 1.0)
        low, high = np.array(LOW), np.array(HIGH)
    found: Pixels = np.rint(low + (high - low) * share_PP[..., None]).astype(np.uint8)
    return found


class Heat(Canvas, can_focus=True):
    """The matrices of student, teacher and their difference, as many as fit, with one cursor in all of them."""

    DEFAULT_CSS = """
    Heat { height: 1fr; min-height: 4; padding: 0 1; background: $background; }
    Heat:focus { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(0, -1)", "text to the left", show=False),
        Binding("right,l", "move(0, 1)", "text to the right", show=False),
        Binding("down,j", "move(1, 0)", "image below", show=False),
        Binding("up,k", "move(-1, 0)", "image above", show=False),
        Binding("d", "diagonal", "matching text of the image", show=False),
    ]

    class Moved(Message):
        """The cursor moved."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id)
        self.view: AffinityView | None = None
        self.place = Place()

    def show(self, view: AffinityView | None) -> None:
        """Show another view."""
        self.view = view
        self.redraw()

    def on_resize(self) -> None:
        self.move_to(*self.place)

    @property
    def grid(self) -> Grid:
        """The grid at the current size."""
        return Grid(0, (), 1) if self.view is None else grid_of(self.view, *self.content_size)

    def strips(self, base: Style) -> list[Strip]:
        grid = self.grid
        width = grid.num_pairs * grid.zoom
        if not width:
            return []
        pixel = np.ones((grid.zoom, grid.zoom, 1), dtype=np.uint8)  # the Kronecker product repeats each entry
        matrices = [half_blocks(np.kron(self._colors(name), pixel), base) for name in grid.names]
        gap = Segment(" " * GAP, base)
        lines = [[Segment(name[:width].ljust(width + GAP), base + Style(bold=True)) for name in grid.names]]
        for rows in zip(*matrices, strict=True):
            lines.append([segment for row in rows for segment in (*row, gap)])
        return [Strip(line).adjust_cell_length(self.content_size.width, base) for line in lines]

    def _colors(self, name: str) -> Pixels:
        num_pairs = self.grid.num_pairs
        values_PP = getattr(self.view, f"{name}_PP")[:num_pairs, :num_pairs]
        found = colors(values_PP, is_difference=name == "difference")
        if max(self.place) < num_pairs:  # after a resize the cursor may lie outside until `on_resize` moves it
            found[self.place] = CURSOR
        return found

    def move_to(self, image: int, text: int) -> None:
        """Move the cursor to a cell, or to the nearest one in the grid."""
        last = max(0, self.grid.num_pairs - 1)
        self.place = Place(min(last, max(0, image)), min(last, max(0, text)))
        self.redraw()
        self.post_message(self.Moved())

    def action_move(self, down: int, right: int) -> None:
        self.move_to(self.place.image + down, self.place.text + right)

    def action_diagonal(self) -> None:
        self.move_to(self.place.image, self.place.image)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there."""
        place = event.get_content_offset(self)
        pairs, _, zoom = self.grid
        if place is None or place.y < 1 or not pairs:
            return
        image, text = 2 * (place.y - 1) // zoom, place.x % (pairs * zoom + GAP) // zoom
        if image < pairs and text < pairs:
            self.move_to(image, text)


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
