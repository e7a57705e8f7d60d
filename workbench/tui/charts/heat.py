"""The affinity matrices of teacher and student, drawn with half-block characters: axes, color bars and one cursor.

Shape letters: P pairs (rows are images, columns are texts); S shown pixels of a side.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.message import Message
from textual.strip import Strip

from workbench.figures.affinity import MARK
from workbench.tui.charts.chart import Canvas
from workbench.tui.charts.images import half_blocks
from workbench.tui.charts.shades import Pixels, colors
from workbench.tui.rows import clipped
from workbench.tui.text import number
from workbench.views.affinity import AffinityView

GAP = 2  # cells between two matrices
NAMES = ("teacher", "student", "difference")  # as in the notebook
LEAST = 6  # pairs, however few cells there are
AXIS = 4  # cells for the numbers of the rows
ROOM_FOR_AXES = (44, 12)  # cells; fewer show the matrices alone
TICK_ROWS, TICK_COLUMNS = 3, 6  # from one number on an axis to the next
NEAR_TWICE = 0.5  # above this share of another pixel for every entry, the matrix is stretched to the space
CURSOR: tuple[int, int, int] = Color.parse(MARK).rgb
NOTHING_OF = 1e-3
WORDED = 30  # columns from which a color bar says which sign is what


class Place(NamedTuple):
    """The rows of an image and a text in the matrices as shown."""

    image: int = 0
    text: int = 0


class Grid(NamedTuple):
    """What is drawn: ``num_pairs`` rows and columns of the matrices ``names``, each as ``size`` × ``size`` pixels."""

    num_pairs: int
    names: tuple[str, ...]
    size: int
    has_axes: bool = False

    @property
    def left(self) -> int:
        """The cells left of the first matrix."""
        return AXIS if self.has_axes else 0

    @property
    def columns(self) -> int:
        return self.left + len(self.names) * (self.size + GAP) - GAP

    @property
    def rows(self) -> int:
        """The height in cells, with the titles, and with the numbers and color bars below."""
        return 1 + (self.size + 1) // 2 + (2 if self.has_axes else 0)

    @property
    def entry_S(self) -> NDArray[np.int64]:
        """The row or column of the matrix at every pixel, from 0."""
        return np.arange(self.size) * self.num_pairs // max(1, self.size)


def grid_of(view: AffinityView, width: int, height: int) -> Grid:
    """The grid for ``width`` × ``height`` terminal cells: all pairs, or as many as fit with three matrices."""
    has_axes = width >= ROOM_FOR_AXES[0] and height >= ROOM_FOR_AXES[1]
    width, height = (width - AXIS, height - 2) if has_axes else (width, height)
    down = max(LEAST, 2 * (height - 1))
    pairs = min(len(view.captions), max(LEAST, (width - 2 * GAP) // 3), down)
    num_fitting = (width + GAP) // (pairs + GAP) if view.teacher_PP is not None else 1
    names = NAMES[:num_fitting] if num_fitting > 1 else ("student",)
    room = min((width - GAP * (len(names) - 1)) // len(names), down)
    times, rest = divmod(room, pairs)
    # Slightly more than a whole number of pixels an entry would make a few of them twice as wide as the others.
    size = room if times >= 1 and rest >= NEAR_TWICE * pairs else pairs * max(1, times)
    return Grid(pairs, names, size, has_axes)


class Heat(Canvas, can_focus=True):
    """The matrices of teacher, student and their difference, as many as fit, with one cursor in all of them."""

    DEFAULT_CSS = """
    Heat { height: 1fr; min-height: 4; padding: 0 1; background: $background; }
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
        self.first = Place()  # the first row and column shown, where not all fit
        self.room: tuple[int, int] | None = None  # columns and rows of which the matrices leave some to others
        self._titles: dict[str, str] = {}
        self._order: Sequence[int] = ()

    def show(self, view: AffinityView | None, titles: dict[str, str] | None = None, order: Sequence[int] = ()) -> None:
        """Show another view, whose rows and columns are the pairs ``order``, with titles by matrix."""
        self.view, self._titles, self._order = view, titles or {}, order
        self.move_to(*self.place)

    def on_resize(self) -> None:
        self.move_to(*self.place)

    @property
    def grid(self) -> Grid:
        """The grid at the current size."""
        if self.view is None:
            return Grid(0, (), 1)
        room = self.content_size if self.room is None or self.screen.maximized is self else self.room
        return grid_of(self.view, *room)

    def strips(self, base: Style) -> list[Strip]:
        grid = self.grid
        if not grid.num_pairs:
            return []
        self._scroll_to_cursor(grid)
        gap, left = Segment(" " * GAP, base), [Segment(" " * grid.left, base)] if grid.left else []
        matrices = [half_blocks(self._colors(name), base) for name in grid.names]
        titles = [clipped(self._titles.get(name, name), grid.size + GAP) for name in grid.names]
        lines = [[*left, *(Segment(title, base + Style(bold=True)) for title in titles)]]
        numbers = self._row_numbers(grid)
        for row, parts in enumerate(zip(*matrices, strict=True)):
            label = [Segment(numbers.get(row, "").rjust(AXIS - 1) + " ", self._faint(base))] if grid.left else []
            lines.append([*label, *(segment for part in parts for segment in (*part, gap))])
        if grid.has_axes:
            below = Segment((self._column_numbers(grid) + " " * GAP) * len(grid.names), self._faint(base))
            lines.append([Segment("pair", self._faint(base)), below])
            bars = [segment for name in grid.names for segment in (*self._color_bar(name, grid.size, base), gap)]
            lines.append([*left, *bars])
        return [Strip(line).adjust_cell_length(self.content_size.width, base) for line in lines]

    def _faint(self, base: Style) -> Style:
        _, _, background, foreground = self.colors
        return base + Style(color=background.blend(foreground, 0.6).hex)

    def _limits(self, name: str) -> tuple[float, float]:
        """The color scale: one for both models, and a difference's with 0 in the middle."""
        assert self.view is not None
        if name == "difference" and (difference_PP := self.view.difference_PP) is not None:
            size = float(np.abs(difference_PP).max()) or 1.0
            return -size, size
        both = [one for one in (self.view.teacher_PP, self.view.student_PP) if one is not None]
        return min(float(one.min()) for one in both), max(float(one.max()) for one in both)

    def _colors(self, name: str) -> Pixels:
        grid, is_dark = self.grid, self.app.current_theme.dark
        entry_S = grid.entry_S
        values_PP = getattr(self.view, f"{name}_PP")
        shown_SS = values_PP[np.ix_(self.first.image + entry_S, self.first.text + entry_S)]
        found = colors(shown_SS, self._limits(name), is_signed=name == "difference", is_dark=is_dark)
        image, text = self.place.image - self.first.image, self.place.text - self.first.text
        found[np.ix_(entry_S == image, entry_S == text)] = CURSOR
        return found

    def _number(self, place: int) -> str:
        """The number of the pair in a row or column, from 1."""
        return str((self._order[place] if self._order else place) + 1)

    def _row_numbers(self, grid: Grid) -> dict[int, str]:
        """The numbers left of the matrices by row of cells: evenly spaced, and the cursor's."""
        entry_S = grid.entry_S
        found = {
            row: self._number(self.first.image + int(entry_S[2 * row]))
            for row in range(0, (grid.size + 1) // 2, TICK_ROWS)
        }
        at = int(np.flatnonzero(entry_S == self.place.image - self.first.image)[0]) // 2
        return {row: text for row, text in found.items() if abs(row - at) > 1} | {
            at: self._number(self.place.image) + "▸"
        }

    def _column_numbers(self, grid: Grid) -> str:
        """The numbers below one matrix: the cursor's, and others where they fit."""
        entry_S, cells = grid.entry_S, [" "] * grid.size
        at = int(np.flatnonzero(entry_S == self.place.text - self.first.text)[0])
        for column in (at, *range(0, grid.size, TICK_COLUMNS)):
            text = self._number(self.first.text + int(entry_S[column])) + ("▴" if column == at else "")
            start = min(column, grid.size - len(text))
            if column == at or set(cells[max(0, start - 1) : start + len(text) + 1]) == {" "}:
                cells[start : start + len(text)] = text
        return "".join(cells)

    def _color_bar(self, name: str, width: int, base: Style) -> list[Segment]:
        """The color scale between its ends; a difference's with what its signs mean, where they fit."""
        is_difference = name == "difference"
        low, high = self._limits(name)
        # A softmax is never 0: the lowest value of a scale is written as 0 where it is next to nothing of the highest.
        ends = number(low if abs(low) > NOTHING_OF * abs(high) else 0.0, 2), number(high, 2)
        if is_difference:
            ends = ends[0], f"+{ends[1]}"
            if width >= WORDED:
                ends = f"lower {ends[0]}", f"{ends[1]} higher"
        room = width - len(ends[0]) - len(ends[1]) - 2
        if room < 2:
            return [Segment(" " * width, base)]
        values = np.linspace(low, high, room)[None]
        shades = colors(values, (low, high), is_signed=is_difference, is_dark=self.app.current_theme.dark)
        bar = [Segment(" ", Style(bgcolor=Color(*shade).hex)) for shade in shades[0].tolist()]
        faint = self._faint(base)
        return [Segment(f"{ends[0]} ", faint), *bar, Segment(f" {ends[1]}", faint)]

    def move_to(self, image: int, text: int) -> None:
        """Move the cursor to a cell, or to the nearest one; where not all rows and columns fit, they move with it."""
        num_pairs = len(self.view.captions) if self.view else 0
        place = Place(*(min(max(0, num_pairs - 1), max(0, at)) for at in (image, text)))
        self.place = place
        self.redraw()
        self.post_message(self.Moved())

    def _scroll_to_cursor(self, grid: Grid) -> None:
        """Show other rows and columns if the cursor's are not among those that fit."""
        left_out = len(self.view.captions) - grid.num_pairs if self.view else 0
        firsts = [
            max(0, min(max(first, at - grid.num_pairs + 1), at, left_out))
            for first, at in zip(self.first, self.place, strict=True)
        ]
        self.first = Place(*firsts)

    def action_move(self, down: int, right: int) -> None:
        self.move_to(self.place.image + down, self.place.text + right)

    def action_diagonal(self) -> None:
        self.move_to(self.place.image, self.place.image)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there."""
        place, grid = event.get_content_offset(self), self.grid
        if place is None or place.y < 1 or place.x < grid.left or not grid.num_pairs:
            return
        row, column = 2 * (place.y - 1), (place.x - grid.left) % (grid.size + GAP)
        if row < grid.size and column < grid.size:
            self.move_to(self.first.image + int(grid.entry_S[row]), self.first.text + int(grid.entry_S[column]))
