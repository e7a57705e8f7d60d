"""Matrices as half blocks: two cells above one another in every character, three matrices side by side.

Shape letter: P pairs; rows are pictures, columns are texts.
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
LOW, HIGH = (16, 20, 24), (240, 228, 66)  # dark to yellow: brightness alone tells them apart
MINUS, ZERO, PLUS = (86, 180, 233), (24, 28, 34), (230, 159, 0)  # blue is less than the teacher, orange is more
CURSOR = (255, 255, 255)
Colors = NDArray[np.uint8]


class Place(NamedTuple):
    """A picture and a text."""

    picture: int = 0
    text: int = 0


class Grid(NamedTuple):
    """How much of the matrices is drawn: the first pairs, of which names, each cell how many columns and half rows."""

    num_pairs: int
    names: tuple[str, ...]
    zoom: int

    @property
    def columns(self) -> int:
        return len(self.names) * (self.num_pairs * self.zoom + GAP) - GAP

    @property
    def rows(self) -> int:
        """With the line of names."""
        return 1 + (self.num_pairs * self.zoom + 1) // 2


def grid_of(view: AffinityView, width: int, height: int) -> Grid:
    """What ``width`` × ``height`` cells have room for: all pairs, or as many as three matrices can show of."""
    across = max(LEAST_ACROSS, (width - 2 * GAP) // 3)
    pairs = min(len(view.captions), across, max(LEAST_DOWN, 2 * (height - 1)))
    num_fitting = (width + GAP) // (pairs + GAP) if view.teacher_PP is not None else 1
    names = NAMES[: max(1, num_fitting)]
    room = (width - GAP * (len(names) - 1)) // len(names)
    return Grid(pairs, names, max(1, min(room // pairs, 2 * (height - 1) // pairs)))


def colors(values_PP: NDArray[np.float64], *, is_difference: bool) -> Colors:
    """RGB uint8 [P, P, 3]: from the least to the greatest value, or for a difference from 0 to its largest size."""
    if is_difference:
        size = float(np.abs(values_PP).max()) or 1.0
        share = np.sqrt(np.abs(values_PP) / size)[..., None]
        end = np.where(values_PP[..., None] < 0, MINUS, PLUS)
        return _mixed(np.broadcast_to(ZERO, end.shape), end, share)
    low, high = float(values_PP.min()), float(values_PP.max())
    share = ((values_PP - low) / (high - low if high > low else 1.0))[..., None]
    return _mixed(np.broadcast_to(LOW, (*values_PP.shape, 3)), np.broadcast_to(HIGH, (*values_PP.shape, 3)), share)


def _mixed(low: NDArray[np.int64], high: NDArray[np.int64], share: NDArray[np.float64]) -> Colors:
    return np.rint(low + (high - low) * share).astype(np.uint8)


class Heat(Enlarged, can_focus=True):
    """The student's matrix, the teacher's and their difference, as many as fit; the cursor is in all of them."""

    DEFAULT_CSS = """
    Heat { height: 1fr; min-height: 4; padding: 0 1; background: $background; }
    Heat:focus { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(0, -1)", "the text to the left", show=False),
        Binding("right,l", "move(0, 1)", "the text to the right", show=False),
        Binding("down,j", "move(1, 0)", "the picture below", show=False),
        Binding("up,k", "move(-1, 0)", "the picture above", show=False),
        Binding("d", "diagonal", "the text that belongs to the picture", show=False),
        Binding("less_than_sign,comma", "scrub(-1)", "earlier"),
        Binding("greater_than_sign,full_stop", "scrub(1)", "later"),
        Binding("0", "newest", "follow the newest", show=False),
        Binding("v", "measure", "affinity/cosine"),
        Binding("i", "pictures", "pictures"),
        Binding("enter", "toggle_maximize", "as large as the screen, and back", show=False),
    ]

    class Moved(Message):
        """The cursor is elsewhere."""

    class Scrubbed(Message):
        """Another time of training is asked for: so many evaluations on, or 0 for the newest."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Turned(Message):
        """The other measure is asked for."""

    class Pictured(Message):
        """The pictures are asked for, or no longer."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view: AffinityView | None = None
        self.place = Place()
        self._lines: list[Strip] = []
        self._base = Style()

    def show(self, view: AffinityView | None) -> None:
        """Draws another view from now on."""
        self.view = view
        self.redraw()

    def redraw(self) -> None:
        """Draws anew."""
        self._lines = []
        self.refresh()

    def on_resize(self) -> None:
        self.move_to(*self.place)

    @property
    def grid(self) -> Grid:
        """What is drawn."""
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
        cell = np.ones((grid.zoom, grid.zoom, 1), dtype=np.uint8)
        matrices = [half_blocks(np.kron(self._marked(name), cell), base) for name in grid.names]
        gap = Segment(" " * GAP, base)
        lines = [[Segment(name[:width].ljust(width + GAP), base + Style(bold=True)) for name in grid.names]]
        for rows in zip(*matrices, strict=True):
            lines.append([segment for row in rows for segment in (*row, gap)])
        return [Strip(line).adjust_cell_length(self.content_size.width, base) for line in lines]

    def _marked(self, name: str) -> Colors:
        found = colors(self._matrix(name), is_difference=name == "difference")
        if max(self.place) < len(found):  # else it is about to be moved
            found[self.place] = CURSOR
        return found

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        base = self.rich_style
        if not self._lines or base != self._base:  # it has the focus now, or another theme
            self._base, self._lines = base, self._draw(base)
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.content_size.width, base)

    def move_to(self, picture: int, text: int) -> None:
        """Puts the cursor on a cell, or on the nearest that is drawn."""
        last = max(0, self.grid.num_pairs - 1)
        self.place = Place(min(last, max(0, picture)), min(last, max(0, text)))
        self.redraw()
        self.post_message(self.Moved())

    def action_move(self, down: int, right: int) -> None:
        self.move_to(self.place.picture + down, self.place.text + right)

    def action_diagonal(self) -> None:
        self.move_to(self.place.picture, self.place.picture)

    def action_scrub(self, by: int) -> None:
        self.post_message(self.Scrubbed(by))

    def action_newest(self) -> None:
        self.post_message(self.Scrubbed(0))

    def action_measure(self) -> None:
        self.post_message(self.Turned())

    def action_pictures(self) -> None:
        self.post_message(self.Pictured())

    def on_click(self, event: events.Click) -> None:
        """Puts the cursor there."""
        place = event.get_content_offset(self)
        pairs, _, zoom = self.grid
        if place is None or place.y < 1 or not pairs:
            return
        picture, text = 2 * (place.y - 1) // zoom, place.x % (pairs * zoom + GAP) // zoom
        if picture < pairs and text < pairs:
            self.move_to(picture, text)
