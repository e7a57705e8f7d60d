"""Chart widgets: one plot with a cursor, and a grid of charts."""

import time
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.containers import Grid
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from workbench.tui.charts.drawing import BEHIND, CURSOR, FAINT, MARK, TITLE, Drawing, draw
from workbench.tui.charts.plot import INK, Lens, Plot
from workbench.tui.contrast import readable

WIDE = 110  # columns from which charts are placed in two columns
ZOOM = 0.5
PAN = 0.25
FAINTNESS = 0.55
BEHINDNESS = 0.4  # of what is drawn behind the curves
WIDER = 170  # columns from which there are three


class Canvas(Widget):
    """A widget whose lines are drawn all at once, and again only after a change of data, size, focus or theme."""

    ALLOW_MAXIMIZE = True

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._base = Style()

    def strips(self, base: Style) -> list[Strip]:
        """All lines on the background ``base``; a subclass draws them."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again, after a change that the widget cannot notice."""
        self._strips = []
        self.refresh()

    def on_resize(self) -> None:
        self.redraw()

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        if not self._strips or base != self._base:  # the focus or the theme changed
            self._base, self._strips = base, self.strips(base)
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.content_size.width, base)

    def action_toggle_maximize(self) -> None:
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)


class Chart(Canvas, can_focus=True):
    """Draws one plot; keys and mouse change the lens."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--title", "chart--cursor", "chart--mark"}
    DEFAULT_CSS = """
    Chart { height: 1fr; min-height: 5; padding: 0 1; background: $background; }
    Chart:focus { background: $surface; }
    Chart > .chart--title { text-style: bold; }
    Chart > .chart--cursor { color: $accent; }
    Chart > .chart--mark { color: $warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "cursor(-1)", "cursor to the left", show=False),
        Binding("right,l", "cursor(1)", "cursor to the right", show=False),
        Binding("shift+left,H", "cursor(-10)", "ten columns to the left", show=False),
        Binding("shift+right,ctrl+l", "cursor(10)", "ten columns to the right", show=False),
        Binding("plus,equals_sign,i", "zoom(True)", "zoom in at the cursor, or at the end", show=False),
        Binding("minus,o", "zoom(False)", "zoom out", show=False),
        Binding("less_than_sign,comma", "pan(-1)", "pan left", show=False),
        Binding("greater_than_sign,full_stop", "pan(1)", "pan right", show=False),
        Binding("0", "reset", "reset zoom and cursor", show=False),
        Binding("enter", "toggle_maximize", "maximize, restore", show=False),
    ]

    class Moved(Message):
        """The lens has changed."""

    def __init__(self, lens: Lens, plot: Plot) -> None:
        super().__init__()
        self.lens = lens
        self.plot = plot
        self._drawing: Drawing | None = None

    def show(self, plot: Plot) -> None:
        """Show another plot."""
        self.plot = plot
        self.redraw()

    def redraw(self) -> None:
        self._drawing = None
        super().redraw()

    @property
    def drawing(self) -> Drawing:
        """The drawing of the plot at the current size, cached until the next :meth:`redraw`."""
        if self._drawing is None:
            start_s = time.thread_time()
            self._drawing = draw(self.plot, self.lens, self.content_size.width, self.content_size.height)
            self.lens.drawing_s += time.thread_time() - start_s
        return self._drawing

    def strips(self, base: Style) -> list[Strip]:
        rows, width = self.drawing.rows, self.content_size.width
        styles = {color: base + self._style(color) for color in {color for row in rows for _, color in row}}
        return [
            Strip([Segment(text, styles[color]) for text, color in row]).adjust_cell_length(width, base) for row in rows
        ]

    def _style(self, color: str) -> Style:
        if color == FAINT:
            _, _, background, foreground = self.colors
            return Style(color=background.blend(foreground, FAINTNESS).hex)
        if color in (TITLE, CURSOR, MARK):
            return self.get_component_rich_style(f"chart--{color}", partial=True)
        if color == INK:
            return Style()
        _, _, background, _ = self.colors
        shown = readable(color.removeprefix(BEHIND), background.hex) if color != BEHIND + INK else self.colors[3].hex
        if color.startswith(BEHIND):
            return Style(color=background.blend(Color.parse(shown), BEHINDNESS).hex)
        return Style(color=shown)

    def action_cursor(self, columns: int) -> None:
        self.lens.move_cursor(columns, self.drawing.num_columns, self.drawing.full)
        self.post_message(self.Moved())

    def action_zoom(self, closer: bool) -> None:
        self.lens.zoom(ZOOM if closer else 1 / ZOOM, self.drawing.full)
        self.post_message(self.Moved())

    def action_pan(self, direction: int) -> None:
        self.lens.pan(direction * PAN, self.drawing.full)
        self.post_message(self.Moved())

    def action_reset(self) -> None:
        self.lens.window = self.lens.cursor = None
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        """Place the cursor; a double click maximizes the chart or restores it."""
        place = event.get_content_offset(self)
        drawing = self.drawing
        if event.chain == 2:
            self.action_toggle_maximize()
        elif place is not None and 0 <= place.x - drawing.left < drawing.num_columns:
            share = (place.x - drawing.left) / max(1, drawing.num_columns - 1)
            low, high = drawing.x_range
            self.lens.cursor = min(drawing.full[1], max(drawing.full[0], low + share * (high - low)))
            self.post_message(self.Moved())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._zoom_by_wheel(event, closer=True)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._zoom_by_wheel(event, closer=False)

    def _zoom_by_wheel(self, event: events.MouseEvent, *, closer: bool) -> None:
        # The wheel alone scrolls the pane, unless the chart fills the screen.
        if event.ctrl or self.screen.maximized is self:
            event.stop()
            self.action_zoom(closer)


class Charts(Grid):
    """A chart per plot, in two columns if the terminal is wide, else in one."""

    DEFAULT_CSS = """
    Charts { grid-size: 1; grid-rows: 12; height: auto; grid-gutter: 1 2; }
    Charts.-wide { grid-size: 2; }
    Charts.-wider { grid-size: 3; }
    Charts > Chart { height: 12; }
    Charts.-filling { height: 1fr; grid-rows: 1fr; }
    Charts.-filling > Chart { height: 1fr; }
    """

    def __init__(self, lens: Lens, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lens = lens
        self.plots: list[Plot] = []

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE and len(self.plots) > 1, "-wide")
        self.set_class(self.size.width >= WIDER and len(self.plots) > 2, "-wider")

    def show(self, plots: list[Plot]) -> None:
        """Show these plots. Charts are reused, so that the focus stays where it is."""
        self.plots = plots
        charts = list(self.query(Chart))
        for chart, plot in zip(charts, plots, strict=False):
            chart.show(plot)
        for chart in charts[len(plots) :]:
            chart.remove()
        if len(plots) > len(charts):
            self.mount_all([Chart(self.lens, plot) for plot in plots[len(charts) :]])
        self.on_resize()
