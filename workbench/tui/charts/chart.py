"""A plot in a frame of cells, with a cursor that reads values; and charts side by side."""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.containers import Grid
from textual.message import Message
from textual.strip import Strip

from workbench.tui.charts.drawing import CURSOR, FAINT, MARK, TITLE, Drawing, draw
from workbench.tui.charts.images import Enlarged
from workbench.tui.charts.plot import INK, Lens, Plot

WIDE = 110  # columns from which charts stand side by side
ZOOM = 0.5
PAN = 0.25
FAINTNESS = 0.55
DIM = 0.3  # a darker colour than this is lightened on a dark screen


class Chart(Enlarged, can_focus=True):
    """Draws one plot through a lens; keys and mouse move the lens."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--title", "chart--cursor", "chart--mark"}
    DEFAULT_CSS = """
    Chart { height: 1fr; min-height: 5; padding: 0 1; background: $background; }
    Chart:focus { background: $surface; }
    Chart > .chart--title { text-style: bold; }
    Chart > .chart--cursor { color: $accent; }
    Chart > .chart--mark { color: $warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "cursor(-1)", "read the values to the left", show=False),
        Binding("right,l", "cursor(1)", "read the values to the right", show=False),
        Binding("shift+left,H", "cursor(-10)", "ten columns to the left", show=False),
        Binding("shift+right,ctrl+l", "cursor(10)", "ten columns to the right", show=False),
        Binding("plus,equals_sign,i", "zoom(True)", "zoom in on the cursor, or on the end", show=False),
        Binding("minus,o", "zoom(False)", "zoom out", show=False),
        Binding("less_than_sign,comma", "pan(-1)", "move the zoomed part to the left", show=False),
        Binding("greater_than_sign,full_stop", "pan(1)", "move the zoomed part to the right", show=False),
        Binding("0", "reset", "show all, without the cursor", show=False),
        Binding("enter", "toggle_maximize", "as large as the screen, and back", show=False),
    ]

    class Moved(Message):
        """The lens has changed."""

    def __init__(self, lens: Lens, plot: Plot | None = None, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lens = lens
        self.plot = plot or Plot("")
        self._drawing: Drawing | None = None
        self._strips: list[Strip] = []
        self._base = Style()

    def show(self, plot: Plot) -> None:
        """Draws another plot from now on."""
        self.plot = plot
        self.redraw()

    def redraw(self) -> None:
        """Draws anew: the lens or the colours have changed."""
        self._drawing = None
        self.refresh()

    def on_resize(self) -> None:
        self.redraw()

    @property
    def drawing(self) -> Drawing:
        """What is on screen."""
        if self._drawing is None:
            self._drawing = draw(self.plot, self.lens, self.content_size.width, self.content_size.height)
            self._strips = []
        return self._drawing

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        rows, base = self.drawing.rows, self.rich_style
        width = self.content_size.width
        if not self._strips or base != self._base:  # it has the focus now, or another theme
            styles: dict[str, Style] = {}
            for colour in {colour for row in rows for _, colour in row}:
                styles[colour] = base + self._style(colour)
            self._base = base
            self._strips = [
                Strip([Segment(text, styles[colour]) for text, colour in row]).adjust_cell_length(width, base)
                for row in rows
            ]
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, base)

    def _style(self, colour: str) -> Style:
        if colour == FAINT:
            _, _, background, foreground = self.colors
            return Style(color=background.blend(foreground, FAINTNESS).hex)
        if colour in (TITLE, CURSOR, MARK):
            return self.get_component_rich_style(f"chart--{colour}", partial=True)
        return Style() if colour == INK else Style(color=on_screen(colour, is_dark=self.app.current_theme.dark))

    def action_cursor(self, columns: int) -> None:
        drawing = self.drawing
        self.lens.move_cursor(columns, drawing.num_columns, drawing.whole)
        self.post_message(self.Moved())

    def action_zoom(self, closer: bool) -> None:
        self.lens.zoom(ZOOM if closer else 1 / ZOOM, self.drawing.whole)
        self.post_message(self.Moved())

    def action_pan(self, direction: int) -> None:
        self.lens.pan(direction * PAN, self.drawing.whole)
        self.post_message(self.Moved())

    def action_reset(self) -> None:
        self.lens.window = self.lens.cursor = None
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        """Puts the cursor there; a double click makes the chart large, or small again."""
        place = event.get_content_offset(self)
        drawing = self.drawing
        if event.chain == 2:
            self.action_toggle_maximize()
        elif place is not None and 0 <= place.x - drawing.left < drawing.num_columns:
            share = (place.x - drawing.left) / max(1, drawing.num_columns - 1)
            low, high = drawing.x_range
            self.lens.cursor = min(drawing.whole[1], max(drawing.whole[0], low + share * (high - low)))
            self.post_message(self.Moved())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        if event.ctrl or self.screen.maximized is self:
            event.stop()
            self.action_zoom(True)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        if event.ctrl or self.screen.maximized is self:
            event.stop()
            self.action_zoom(False)


class Charts(Grid):
    """Charts side by side where there is room, else one below the other; as many as there are plots."""

    DEFAULT_CSS = """
    Charts { grid-size: 1; grid-rows: 12; height: auto; grid-gutter: 1 2; }
    Charts.-wide { grid-size: 2; }
    Charts > Chart { height: 12; }
    Charts.-filling { height: 1fr; grid-rows: 1fr; }
    Charts.-filling > Chart { height: 1fr; }
    """

    def __init__(self, lens: Lens, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lens = lens
        self._plots: list[Plot] = []

    def compose(self) -> ComposeResult:
        """Nothing: charts come with their plots."""
        yield from ()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= WIDE and len(self._plots) > 1, "-wide")

    def show(self, plots: list[Plot]) -> None:
        """Draws these plots."""
        self._plots = plots
        charts = list(self.query(Chart))
        for chart, plot in zip(charts, plots, strict=False):
            chart.show(plot)
        for chart in charts[len(plots) :]:
            chart.remove()
        if len(plots) > len(charts):
            self.mount_all([Chart(self.lens, plot) for plot in plots[len(charts) :]])
        self.set_class(self.size.width >= WIDE and len(plots) > 1, "-wide")

    @property
    def plots(self) -> list[Plot]:
        """What is drawn."""
        return self._plots


def on_screen(colour: str, *, is_dark: bool) -> str:
    """A figure's colour, lighter on a dark screen if it is made for paper only."""
    found = Color.parse(colour)
    if is_dark and found.brightness < DIM + 0.1:
        return found.lighten(0.2).hex
    return found.hex
