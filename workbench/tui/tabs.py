"""Screens of several panes in tabs: number keys switch panes, and all charts share one lens."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Tab, TabbedContent, TabPane

from workbench.tui.charts.chart import Chart, Charts
from workbench.tui.charts.plot import Lens, Plot
from workbench.tui.host import Host
from workbench.tui.preferences import Axis

TAB_PADDING = 2  # cells


class Reading(VerticalScroll, can_focus=True):
    """Scrollable text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "down", show=False),
        Binding("k", "scroll_up", "up", show=False),
        Binding("g", "scroll_home", "to the top", show=False),
        Binding("G", "scroll_end", "to the end", show=False),
    ]


class Panes(TabbedContent):
    """Textual's tabs with two changes.

    A late focus event does not switch panes, as this would undo the next key. In a narrow terminal the names are
    shortened, so that the numbers of all panes stay visible.
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
        """Shorten the tab names to the width that is available."""
        if not self._names or not self.active:
            return
        front = list(self._names).index(self.get_tab(self.active))
        room = self.size.width - TAB_PADDING * len(self._names)
        for tab, name in zip(self._names, fitted(list(self._names.values()), front, room), strict=True):
            if tab.label_text != name:
                tab.label = name

    def on_tab_pane_focused(self, event: TabPane.Focused) -> None:
        # Textual would activate the tab of a pane that gains focus late, after another tab was chosen.
        event.prevent_default()
        event.stop()


def fitted(names: list[str], front: int, room: int) -> list[str]:
    """Names shortened to fit into ``room`` cells. The one at ``front`` stays complete; no other gets empty.

    >>> fitted(["1 loss", "2 speed", "3 events"], front=1, room=15)
    ['1 lo', '2 speed', '3 ev']
    """
    for most in range(max(map(len, names)), 0, -1):
        cut = [name if place == front else name[:most].rstrip() for place, name in enumerate(names)]
        if sum(map(len, cut)) <= room:
            break
    return cut


LENS = ("is_log", "smoothing", "axis")  # settings of a lens that are kept as preferences
LENS_KEYS = [
    Binding("y", "log", "log axis"),
    Binding("s", "smoothing", "smooth"),
    Binding("x", "axis", "axis"),
]


def pane_keys(panes: tuple[str, ...]) -> list[Binding]:
    """Escape leaves the screen; a number opens each pane, brackets the next and the previous one."""
    return [
        Binding("escape,backspace", "app.pop_screen", "back", key_display="esc"),
        *(Binding(str(place), f"pane('{pane}')", f"pane: {pane}", show=False) for place, pane in enumerate(panes, 1)),
        Binding("right_square_bracket", "next_pane(1)", "next pane", show=False, key_display="]"),
        Binding("left_square_bracket", "next_pane(-1)", "previous pane", show=False, key_display="["),
    ]


class PanedScreen(Screen[None]):
    """A screen with ``Panes``; a subclass lists their ids in ``PANES`` and draws the active one."""

    DEFAULT_CSS = """
    PanedScreen Panes { height: 1fr; }
    PanedScreen ContentSwitcher { height: 1fr; }
    PanedScreen Tab { color: $foreground 75%; }
    PanedScreen TabPane { padding: 0; height: 1fr; }
    PanedScreen Reading { height: 1fr; padding: 0 1; }
    PanedScreen Reading > Static { height: auto; }
    PanedScreen Reading > Charts { margin-bottom: 1; }
    """
    PANES: ClassVar[tuple[str, ...]]
    AXES: ClassVar[tuple[Axis, ...]] = ("step", "time")
    app: Host

    def __init__(self) -> None:
        super().__init__()
        self.lens = Lens()
        self._lens_keys = dict.fromkeys(("log", "smoothing", "axis"), False)  # whether each applies to the active pane

    @property
    def pane(self) -> str:
        """The id of the active pane."""
        return self.query_one(Panes).active or self.PANES[0]

    @property
    def plots(self) -> list[Plot]:
        """The plots of the active pane."""
        return [plot for charts in self.query_one(f"#{self.pane}").query(Charts) for plot in charts.plots]

    def apply_preferences(self) -> None:
        """Set the lens to the saved preferences."""
        for name in LENS:
            setattr(self.lens, name, getattr(self.app.preferences, name))
        if self.lens.axis not in self.AXES:
            self.lens.axis = self.AXES[0]  # another screen has more

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys of the lens where they have no effect."""
        return self._lens_keys[action] if action in self._lens_keys else super().check_action(action, parameters)

    def update_lens_keys(self) -> None:
        """Enable the keys of the lens that apply to the active pane. Call it after the pane is drawn."""
        drawn = [plot for plot in self.plots if plot.curves]
        lens_keys = {
            "log": any(plot.may_log for plot in drawn),
            "smoothing": any(plot.may_smooth for plot in drawn),
            "axis": bool(drawn),
        }
        if lens_keys != self._lens_keys:
            self._lens_keys = lens_keys
            self.refresh_bindings()

    def redraw_charts(self) -> None:
        """Draw the charts of the active pane again, after a change of the lens."""
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
        """Focus the content of the active pane: its table, its first chart, or its text."""
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
        self.lens.turn_axis(self.AXES)
        self._keep_lens()

    def _keep_lens(self) -> None:
        for name in LENS:
            setattr(self.app.preferences, name, getattr(self.lens, name))
        self.app.save_preferences()
        self.redraw_charts()
