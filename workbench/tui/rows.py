"""A table with a cursor. Unlike Textual's DataTable it redraws only rows that change, and a single click opens none."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.errors import visible
from workbench.tui.label import Label
from workbench.tui.text import hex_of

GAP = 2
SCROLLBAR = 2  # cells reserved for the scrollbar
DOWN, UP = "▾", "▴"  # in the heading that the rows are sorted by; up: reversed


class Column(NamedTuple):
    """A column: the key of its cells, its heading, and its width in terminal cells.

    ``is_number``: heading and cells are aligned to the right. ``sign`` is ▾ or ▴ in the column that the rows are sorted
    by.
    """

    key: str
    heading: str
    width: int
    is_number: bool = False
    sign: str = ""

    def fitted(self, text: str) -> str:
        """A cell's text, padded or cut to exactly the column's width."""
        cut = clipped(text, self.width)
        return cut.rstrip().rjust(self.width) if self.is_number and cell_len(text) <= self.width else cut


class Cell(NamedTuple):
    """Text, with a color name of the theme, a hex number, or nothing for the default; its control characters show."""

    text: str
    color: str = ""


Line = tuple[Cell, ...]


def sorted_lines(lines: dict[str, Line], columns: Sequence[Column], key: str, *, is_reversed: bool) -> dict[str, Line]:
    """The rows in the order of a column: of its numbers, largest first, or of its text; what has none is last."""
    places = [place for place, column in enumerate(columns) if column.key == key]
    if not places:
        return lines
    place = places[0]
    values = {row: _number(line[place].text) if columns[place].is_number else None for row, line in lines.items()}
    texts = {row: line[place].text.strip().lower() for row, line in lines.items()}
    if columns[place].is_number:
        there = [row for row, value in values.items() if value is not None]
        there.sort(key=lambda row: values[row] or 0.0, reverse=not is_reversed)
    else:
        there = sorted((row for row in lines if texts[row]), key=texts.__getitem__, reverse=is_reversed)
    return {row: lines[row] for row in [*there, *(row for row in lines if row not in set(there))]}


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None


class Headings(Label):
    """The header line of a table. A click on a heading asks for the order of its column."""

    DEFAULT_CSS = """
    Headings { height: 1; text-style: bold; background: $surface; text-wrap: nowrap; text-overflow: clip; }
    """

    class Clicked(Message):
        """A click on the heading of the column ``key``."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: tuple[Column, ...] = ()

    def show(self, columns: Sequence[Column]) -> None:
        """Show the headings of these columns."""
        self._columns = tuple(columns)
        parts = (" " * GAP + one.fitted(one.heading + one.sign) for one in columns)
        self.update(Text("".join(parts)[GAP - 1 :]), layout=False)

    def on_click(self, event: events.Click) -> None:
        left = 1
        for column in self._columns:
            if left <= event.x < left + column.width + GAP:
                self.post_message(self.Clicked(column.key))
                return
            left += column.width + GAP


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """One line per row, identified by a key. The cursor stays on its key when rows are added, removed or reordered."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor"}
    DEFAULT_CSS = """
    Rows { background: $background; height: 1fr; scrollbar-size-horizontal: 0; }
    Rows > .rows--cursor { background: $panel-lighten-2; text-style: bold; }
    Rows:focus > .rows--cursor { background: $primary 35%; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "open", show=True),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "a page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "a page up", show=False),
        Binding("home,g", "first", "to the first", show=False),
        Binding("end,G", "last", "to the last", show=False),
    ]

    class Chosen(Message):
        """The row at the cursor was opened."""

    class Moved(Message):
        """The cursor moved to another row."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._columns: tuple[Column, ...] = ()
        self._keys: list[str] = []
        self._lines: dict[str, Line] = {}

    @property
    def key(self) -> str | None:
        """The key of the row at the cursor."""
        return self._keys[self.cursor] if self._keys else None

    @property
    def lines(self) -> Mapping[str, Line]:
        """The rows by key, from top to bottom."""
        return self._lines

    def show(self, columns: Sequence[Column], lines: dict[str, Line]) -> None:
        """Replace the rows; if the keys and their order are unchanged, only rows that differ are redrawn."""
        keys, before, at_cursor = list(lines), self._lines, self.key
        # A sort sign belongs to the headings alone.
        shown = tuple(one._replace(heading="", sign="") for one in columns)
        self._lines = lines
        if keys == self._keys and shown == self._columns:
            for place, key in enumerate(keys):
                if lines[key] != before[key]:
                    self.refresh_line(place)
            return
        self._keys, self._columns = keys, shown
        self.cursor = keys.index(at_cursor) if at_cursor in lines else min(self.cursor, max(0, len(keys) - 1))
        self.virtual_size = Size(self.size.width, len(keys))
        self.refresh()
        self._scroll_to_cursor()

    def render_line(self, y: int) -> Strip:
        place = y + self.scroll_offset.y
        width, base = self.size.width, self.rich_style
        if place >= len(self._keys):
            return Strip.blank(width, base)
        if place == self.cursor:
            base += self.get_component_rich_style("rows--cursor")
        colors = self.app.theme_variables
        segments = [Segment(" ", base)]
        for (text, color), column in zip(self._lines[self._keys[place]], self._columns, strict=True):
            shown = color if color.startswith("#") else hex_of(colors, color)
            style = base + Style(color=shown) if shown else base
            segments += [Segment(column.fitted(visible(text)), style), Segment(" " * GAP, base)]
        return Strip(segments).adjust_cell_length(width, base)

    def move_to(self, place: int) -> None:
        """Move the cursor to a row; ``place`` is clamped to the first and the last."""
        before, self.cursor = self.cursor, max(0, min(len(self._keys) - 1, place))
        self.refresh_line(before)
        self.refresh_line(self.cursor)
        self._scroll_to_cursor()
        if before != self.cursor:
            self.post_message(self.Moved())

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, max(1, self.size.width), 1), animate=False)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there; a double click opens the row."""
        place = event.y + self.scroll_offset.y
        if place == self.cursor and event.chain == 2:
            self.action_choose()
        elif place < len(self._keys):
            self.move_to(place)

    def action_choose(self) -> None:
        if self._keys:
            self.post_message(self.Chosen())

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor + by * max(1, self.size.height - 1))

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(len(self._keys) - 1)


def clipped(text: str, width: int) -> str:
    """Text padded or cut to exactly ``width`` cells, with an ellipsis where it is cut."""
    fitted = set_cell_size(text, width)
    return fitted if fitted.rstrip() == text.rstrip() or width < 2 else set_cell_size(text, width - 1) + "…"
