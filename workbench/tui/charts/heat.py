"""A heat map widget for the affinity matrices of student and teacher, drawn with half-block characters.

Shape letter: P pairs; rows are images, columns are texts.
"""

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from workbench.tui.charts.images import Enlarged, half_blocks
from workbench.views.affinity import AffinityView

GAP = 2
NAMES = ("student", "teacher", "difference")
LEAST_ACROSS, LEAST_DOWN = 12, 6
LOW, HIGH = (16, 20, 24), (240, 228, 66)  # dark to yellow: readable by brightness alone
MINUS, ZERO, PLUS = (86, 180, 233), (24, 28, 34), (230, 159, 0)  # blue: below the teacher, orange: above
CURSOR = (255, 255, 255)
Colors = NDArray[np.uint8]


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


def colors(values_PP: NDArray[np.float64], *, is_difference: bool) -> Colors:
    """RGB colors, uint8 [P, P, 3], scaled from minimum to maximum, or for a difference from 0 to the largest size."""
    if is_difference:
        size = float(np.abs(values_PP).max()) or 1.0
        share = np.sqrt(np.abs(values_PP) / size)[..., None]  # the square root makes small differences visible
        end = np.where(values_PP[..., None] < 0, MINUS, PLUS)
        return _mixed(np.broadcast_to(ZERO, end.shape), end, share)
    low, high = float(values_PP.min()), float(values_PP.max())
    share = ((values_PP - low) / (high - low if high > low else 1.0))[..., None]
    return _mixed(np.broadcast_to(LOW, (*values_PP.shape, 3)), np.broadcast_to(HIGH, (*values_PP.shape, 3)), share)


def _mixed(low: NDArray[np.int64], high: NDArray[np.int64], share: NDArray[np.float64]) -> Colors:
    return np.rint(low + (high - low) * share).astype(np.uint8)


class Heat(Enlarged, can_focus=True):
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
        Binding("less_than_sign,comma", "scrub(-1)", "earlier"),
        Binding("greater_than_sign,full_stop", "scrub(1)", "later"),
        Binding("0", "newest", "follow the newest", show=False),
        Binding("v", "measure", "affinity/cosine"),
        Binding("i", "images", "images"),
        Binding("enter", "toggle_maximize", "maximize, restore", show=False),
    ]

    class Moved(Message):
        """The cursor moved."""

    class Scrubbed(Message):
        """Show a probe ``by`` evaluations later (negative: earlier), or the newest for 0."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Turned(Message):
        """Show the other measure."""

    class ImagesToggled(Message):
        """Show or hide the images."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view: AffinityView | None = None
        self.place = Place()
        self._lines: list[Strip] = []
        self._base = Style()

    def show(self, view: AffinityView | None) -> None:
        """Show another view."""
        self.view = view
        self.redraw()

    def redraw(self) -> None:
        """Draw again."""
        self._lines = []
        self.refresh()

    def on_resize(self) -> None:
        self.move_to(*self.place)

    @property
    def grid(self) -> Grid:
        """The grid at the current size."""
        if self.view is None:
            return Grid(0, (), 1)
        return grid_of(self.view, *self.content_size)

    def _matrix(self, name: str) -> NDArray[np.float64]:
        assert self.view is not None
        found = getattr(self.view, f"{name}_PP")
        part: NDArray[np.float64] = found[: self.grid.num_pairs, : self.grid.num_pairs]
        return part

    def _draw(self, base: Style) -> list[Strip]:
        grid = self.grid
        width = grid.num_pairs * grid.zoom
        if not width:
            return []
        cell = np.ones((grid.zoom, grid.zoom, 1), dtype=np.uint8)  # the Kronecker product repeats each entry
        matrices = [half_blocks(np.kron(self._marked(name), cell), base) for name in grid.names]
        gap = Segment(" " * GAP, base)
        lines = [[Segment(name[:width].ljust(width + GAP), base + Style(bold=True)) for name in grid.names]]
        for rows in zip(*matrices, strict=True):
            lines.append([segment for row in rows for segment in (*row, gap)])
        return [Strip(line).adjust_cell_length(self.content_size.width, base) for line in lines]

    def _marked(self, name: str) -> Colors:
        found = colors(self._matrix(name), is_difference=name == "difference")
        if max(self.place) < len(found):  # after a resize the cursor may lie outside until `on_resize` moves it
            found[self.place] = CURSOR
        return found

    def render_line(self, y: int) -> Strip:
        """One row of the widget, for Textual."""
        base = self.rich_style
        if not self._lines or base != self._base:  # the focus or the theme changed
            self._base, self._lines = base, self._draw(base)
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.content_size.width, base)

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

    def action_scrub(self, by: int) -> None:
        self.post_message(self.Scrubbed(by))

    def action_newest(self) -> None:
        self.post_message(self.Scrubbed(0))

    def action_measure(self) -> None:
        self.post_message(self.Turned())

    def action_images(self) -> None:
        self.post_message(self.ImagesToggled())

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there."""
        place = event.get_content_offset(self)
        pairs, _, zoom = self.grid
        if place is None or place.y < 1 or not pairs:
            return
        image, text = 2 * (place.y - 1) // zoom, place.x % (pairs * zoom + GAP) // zoom
        if image < pairs and text < pairs:
            self.move_to(image, text)
