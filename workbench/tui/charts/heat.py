"""Matrices as half blocks: two cells above one another in every character, three matrices side by side.

Shape letter: P pairs; rows are pictures, columns are texts.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from workbench.tui.charts.enlarged import Enlarged
from workbench.views.affinity import AffinityView

HALF = "▀"
GAP = 2
LOW, HIGH = (16, 20, 24), (240, 228, 66)  # dark to yellow: brightness alone tells them apart
MINUS, ZERO, PLUS = (86, 180, 233), (24, 28, 34), (230, 159, 0)  # blue is less than the teacher, orange is more
CURSOR = (255, 255, 255)
Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """A picture and a text."""

    picture: int = 0
    text: int = 0


def colours(values_PP: NDArray[np.float64], *, is_difference: bool) -> Colours:
    """RGB uint8 [P, P, 3]: from the least to the greatest value, or for a difference from 0 to its largest size."""
    if is_difference:
        size = float(np.abs(values_PP).max()) or 1.0
        share = np.sqrt(np.abs(values_PP) / size)[..., None]
        end = np.where(values_PP[..., None] < 0, MINUS, PLUS)
        return _mixed(np.broadcast_to(ZERO, end.shape), end, share)
    low, high = float(values_PP.min()), float(values_PP.max())
    share = ((values_PP - low) / (high - low if high > low else 1.0))[..., None]
    return _mixed(np.broadcast_to(LOW, (*values_PP.shape, 3)), np.broadcast_to(HIGH, (*values_PP.shape, 3)), share)


def _mixed(low: NDArray[np.int64], high: NDArray[np.int64], share: NDArray[np.float64]) -> Colours:
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

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view: AffinityView | None = None
        self.place = Place()
        self._lines: list[Strip] = []

    def show(self, view: AffinityView | None) -> None:
        """Draws another view from now on."""
        self.view = view
        self.redraw()

    def redraw(self) -> None:
        """Draws anew."""
        self._lines = []
        self.refresh()

    def on_resize(self) -> None:
        self.redraw()

    @property
    def names(self) -> list[str]:
        """Which matrices are drawn, from the left."""
        if self.view is None or self.view.teacher_PP is None:
            return ["student"]
        num_fitting = (self.content_size.width + GAP) // (self.num_pairs + GAP)
        return ["student", "teacher", "difference"][: max(1, num_fitting)]

    @property
    def num_pairs(self) -> int:
        """How many pairs are drawn: all, or as many as three matrices have room for, and no fewer than 12 across."""
        if self.view is None:
            return 0
        room = max(12, (self.content_size.width - 2 * GAP) // 3)
        rows = max(6, 2 * (self.content_size.height - 1))
        return min(len(self.view.captions), room, rows)

    @property
    def zoom(self) -> int:
        """Columns of a cell, and half rows."""
        if not self.num_pairs:
            return 1
        across = (self.content_size.width - GAP * (len(self.names) - 1)) // (len(self.names) * self.num_pairs)
        return max(1, min(across, 2 * (self.content_size.height - 1) // self.num_pairs))

    def _matrix(self, name: str) -> NDArray[np.float64]:
        assert self.view is not None
        found = getattr(self.view, f"{name}_PP")
        part: NDArray[np.float64] = found[: self.num_pairs, : self.num_pairs]
        return part

    def _draw(self) -> list[Strip]:
        if self.view is None or not self.num_pairs:
            return []
        base, zoom, names = self.rich_style, self.zoom, self.names
        width = self.num_pairs * zoom
        pictures = [np.kron(self._marked(name), np.ones((zoom, zoom, 1), dtype=np.uint8)) for name in names]
        title: list[Segment] = []
        for name in names:
            title.append(Segment(name[:width].ljust(width + GAP), base + Style(bold=True)))
        lines = [Strip(title).adjust_cell_length(self.content_size.width, base)]
        for row in range(0, width, 2):
            segments: list[Segment] = []
            for picture in pictures:
                above = picture[row]
                below = picture[row + 1] if row + 1 < width else np.zeros_like(above)
                segments += [Segment(HALF, _style(tuple(a), tuple(b))) for a, b in zip(above, below, strict=True)]
                segments.append(Segment(" " * GAP, base))
            lines.append(Strip(segments).adjust_cell_length(self.content_size.width, base))
        return lines

    def _marked(self, name: str) -> Colours:
        found = colours(self._matrix(name), is_difference=name == "difference")
        found[self.place.picture, self.place.text] = CURSOR
        return found

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        self._lines = self._lines or self._draw()
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.content_size.width, self.rich_style)

    def move_to(self, picture: int, text: int) -> None:
        """Puts the cursor on a cell, or on the nearest there is."""
        last = max(0, self.num_pairs - 1)
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

    def on_click(self, event: events.Click) -> None:
        """Puts the cursor there."""
        place = event.get_content_offset(self)
        if place is None or place.y < 1 or not self.num_pairs:
            return
        column = place.x % (self.num_pairs * self.zoom + GAP)
        picture, text = 2 * (place.y - 1) // self.zoom, column // self.zoom
        if picture < self.num_pairs and text < self.num_pairs:
            self.move_to(picture, text)


def _style(above: tuple[int, ...], below: tuple[int, ...]) -> Style:
    return Style(color=_hex(above), bgcolor=_hex(below))


def _hex(colour: tuple[int, ...]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, colour))
