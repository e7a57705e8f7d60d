"""Screens of several panes: one key for each, and the lens that their charts share."""

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Tab, TabbedContent, TabPane
from textual.widgets._footer import FooterKey

from workbench.tui.charts.chart import Chart, Charts
from workbench.tui.charts.plot import Lens

if TYPE_CHECKING:
    from workbench.tui.app import Workbench


# The keys at the foot of a screen.

DOCKED = "-command-palette"  # Textual's class for a key that stays at the right


class KeyFooter(Footer):
    """What can be done where one is; the key that shows all keys stays in sight however narrow the terminal is."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        """The keys of the screen and of what has the focus."""
        for widget in super().compose():
            if isinstance(widget, FooterKey) and widget.key == "question_mark":
                widget.add_class(DOCKED)
            yield widget


AROUND_A_NAME = 2  # cells


class Reading(VerticalScroll, can_focus=True):
    """Text to scroll through."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "down", show=False),
        Binding("k", "scroll_up", "up", show=False),
        Binding("g", "scroll_home", "to the top", show=False),
        Binding("G", "scroll_end", "to the end", show=False),
    ]


class Panes(TabbedContent):
    """Textual's tabs, but for two things.

    They don't follow a focus that comes late: that would undo the next key. And where a terminal is narrow their names
    are cut, so that the numbers of all stay in sight.
    """

    ALLOW_MAXIMIZE = False

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._names: dict[Tab, str] = {}

    def on_mount(self) -> None:
        self._names = {tab: tab.label_text for tab in self.query(Tab)}
        self.name_tabs()

    def on_resize(self) -> None:
        self.name_tabs()

    def watch_active(self) -> None:
        self.name_tabs()

    def name_tabs(self) -> None:
        """Gives the tabs as much of their names as there is room for."""
        if not self._names or not self.active:
            return
        front = list(self._names).index(self.get_tab(self.active))
        room = self.size.width - AROUND_A_NAME * len(self._names)
        for tab, name in zip(self._names, fitted(list(self._names.values()), front, room), strict=True):
            if tab.label_text != name:
                tab.label = name

    def on_tab_pane_focused(self, event: TabPane.Focused) -> None:
        event.prevent_default()
        event.stop()


def fitted(names: list[str], front: int, room: int) -> list[str]:
    """Names cut alike until they fit into so many cells; the one in front is whole, and no other ever empty.

    >>> fitted(["1 loss", "2 speed", "3 events"], front=1, room=15)
    ['1 lo', '2 speed', '3 ev']
    """
    for most in range(max(map(len, names)), 0, -1):
        cut = [name if place == front else name[:most].rstrip() for place, name in enumerate(names)]
        if sum(map(len, cut)) <= room:
            break
    return cut


def pane_keys(panes: tuple[str, ...]) -> list[Binding]:
    """A number for each pane, and brackets to go through them."""
    numbers = [
        Binding(str(number), f"pane('{pane}')", f"pane: {pane}", show=False)
        for number, pane in enumerate(panes, start=1)
    ]
    return [
        *numbers,
        Binding("right_square_bracket", "next_pane(1)", "next pane", show=False, key_display="]"),
        Binding("left_square_bracket", "next_pane(-1)", "previous pane", show=False, key_display="["),
    ]


class PanedScreen(Screen[None]):
    """Has ``Panes``; a subclass names them in ``PANES`` and draws the one in front."""

    DEFAULT_CSS = """
    Paned Panes { height: 1fr; }
    Paned ContentSwitcher { height: 1fr; }
    Paned TabPane { padding: 0; height: 1fr; }
    Paned Reading { height: 1fr; padding: 0 1; }
    Paned Reading > Static { height: auto; }
    Paned Reading > Charts { margin-bottom: 1; }
    """
    LENS_KEYS: ClassVar[list[Binding]] = [
        Binding("y", "log", "log axis"),
        Binding("s", "smoothing", "smooth"),
        Binding("x", "axis", "step/time"),
    ]
    PANES: ClassVar[tuple[str, ...]]
    app: "Workbench"
    lens: Lens

    def __init__(self) -> None:
        super().__init__()
        self._offers = dict.fromkeys(("log", "smoothing", "axis"), False)

    @property
    def pane(self) -> str:
        """The pane in front."""
        return self.query_one(Panes).active or self.PANES[0]

    def take_habits(self) -> None:
        """Looks through the lens as the person last did."""
        memory = self.app.memory
        self.lens.is_log, self.lens.smoothing, self.lens.axis = memory.is_log, memory.smoothing, memory.axis

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of the lens are there where they do something."""
        return self._offers[action] if action in self._offers else super().check_action(action, parameters)

    def offer_lens(self) -> None:
        """Offers the keys of the lens as the pane in front has use for them; to be called after it was drawn."""
        plots = [plot for charts in self.query_one(f"#{self.pane}").query(Charts) for plot in charts.plots]
        drawn = [plot for plot in plots if plot.curves]
        offers = {
            "log": any(plot.may_log for plot in drawn),
            "smoothing": any(plot.may_smooth for plot in drawn),
            "axis": bool(drawn),
        }
        if offers != self._offers:
            self._offers = offers
            self.refresh_bindings()

    def redraw_charts(self) -> None:
        """The lens has changed."""
        for chart in self.query_one(f"#{self.pane}").query(Chart):
            chart.redraw()

    def on_chart_moved(self) -> None:
        self.redraw_charts()

    def action_pane(self, pane: str) -> None:
        if self.maximized is not None:
            self.minimize()
        self.query_one(Panes).active = pane
        self.call_after_refresh(self.focus_pane)

    def focus_pane(self) -> None:
        """Gives the keys to what is in front: its lines, its first chart, or its text."""
        pane = self.query_one(f"#{self.pane}")
        for widget in [*pane.query("Rows, Chart, Heat"), *pane.query(Reading)]:
            if widget.focusable:
                widget.focus(scroll_visible=False)
                return

    def action_next_pane(self, by: int) -> None:
        self.action_pane(self.PANES[(self.PANES.index(self.pane) + by) % len(self.PANES)])

    def action_log(self) -> None:
        self.lens.is_log = not self.lens.is_log
        self._keep_lens()

    def action_smoothing(self) -> None:
        self.lens.turn_smoothing()
        self._keep_lens()

    def action_axis(self) -> None:
        self.lens.turn_axis()
        self._keep_lens()

    def _keep_lens(self) -> None:
        memory = self.app.memory
        memory.is_log, memory.smoothing, memory.axis = self.lens.is_log, self.lens.smoothing, self.lens.axis
        self.app.keep()
        self.redraw_charts()
