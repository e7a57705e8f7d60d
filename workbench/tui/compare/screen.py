"""The screen that compares several runs: their curves, settings and metrics."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabPane

from workbench.errors import visible
from workbench.runs.directory import RunDirectory
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import LETTERS, Lens
from workbench.tui.compare.group import RunGroup
from workbench.tui.export import Table, plots_table
from workbench.tui.host import Host
from workbench.tui.keys import KeyFooter
from workbench.tui.run.follow import Name
from workbench.tui.tabs import PanedScreen, Panes, Reading, pane_keys
from workbench.tui.text import columns_text, state_text
from workbench.views.comparison import Comparison, MetricRow, setting_text

PANES = ("curves", "settings", "differences")
REFRESH_S = 1.0
CATCH_UP_S = 0.1
MOST_CELL = 32


class CompareScreen(PanedScreen):
    """Curves of all runs in one chart, the settings that differ, and metrics with their differences."""

    DEFAULT_CSS = """
    CompareScreen #head {
        height: auto; max-height: 6; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "back", key_display="esc"),
        *pane_keys(PANES),
        Binding("m", "turn(1)", "next curve"),
        Binding("M", "turn(-1)", "previous curve", show=False),
        *PanedScreen.LENS_KEYS,
    ]
    PANES = PANES
    app: Host
    export_name = "comparison"

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self.group = RunGroup(runs)
        self.lens = Lens()
        self.shown: Name = ("loss", "total")
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        """The list of runs, the panes, the keys."""
        yield Static("", id="head", markup=False)
        with Panes(id="panes"):
            with TabPane("1 curves", id="curves"):
                yield Charts(self.lens, classes="-filling", id="charts")
            with TabPane("2 settings", id="settings"), Reading():
                yield Static("", id="told", markup=False)
            with TabPane("3 differences", id="differences"), Reading():
                yield Static("", id="found", markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        self.apply_preferences()
        self.tick()
        self.set_interval(REFRESH_S, self.tick)
        self.call_after_refresh(self.focus_pane)

    def tick(self) -> None:
        """Read new events of all runs."""
        if self.group.poll():
            self.set_timer(CATCH_UP_S, self.tick)
        if self.is_current:
            self.draw()

    def draw(self) -> None:
        """Update the header and, if its data changed, the active pane."""
        if not self.children:
            return  # the screen is being closed
        self.query_one("#head", Static).update(self._head())
        basis = (self.group.version, self.pane, self.shown, self.size.width)
        if basis == self._drawn:
            return
        self._drawn = basis
        self._draw_pane()
        self.update_lens_keys()

    def _draw_pane(self) -> None:
        if self.pane == "curves":
            self.query_one(Charts).show([self.group.plot(self.shown)])
            return
        try:
            comparison = self.group.comparison()
        except ValueError as error:
            self.app.show_notice(str(error), is_error=True)
            return
        if self.pane == "settings":
            self.query_one("#told", Static).update(settings_text(comparison, self.size.width - 4))
        else:
            self.query_one("#found", Static).update(differences_text(comparison, self.group, self.size.width - 4))

    def _head(self) -> Text:
        text = Text()
        for letter, follower in zip(LETTERS, self.group.followers, strict=False):
            status = follower.status
            where = f", step {status.step:,} of {status.num_steps:,}" if status and status.num_steps else ""
            text.append(f"{letter} ", "bold")
            text.append(visible(follower.run.id))
            text.append(f"  {visible(follower.problem) or state_text(status, is_quiet=False) + where}\n", "dim")
        text.rstrip()
        return text

    def table(self) -> Table:
        """The data to export or copy."""
        if self.pane == "curves":
            return plots_table([self.group.plot(self.shown)])
        comparison = self.group.comparison()
        if self.pane == "settings":
            rows = [[one.name, *map(setting_text, one.values)] for one in comparison.settings]
        else:
            rows = [
                [f"{split.split}: {row.metric.name}", *("" if value is None else repr(value) for value in row.values)]
                for split in comparison.splits
                for row in split.rows
            ]
        return [self.pane, *comparison.runs], rows

    def on_tabbed_content_tab_activated(self) -> None:
        self.draw()

    def action_turn(self, by: int) -> None:
        names = self.group.names
        if names:
            place = names.index(self.shown) if self.shown in names else -by
            self.shown = names[(place + by) % len(names)]
            self.action_pane("curves")
            self.draw()


def settings_text(comparison: Comparison, width: int) -> Text:
    """The settings that differ between runs, then those that are equal."""
    text = Text()
    differing = comparison.differing
    text.append("settings that differ\n" if differing else "no setting differs\n", "bold")
    rows = [[one.name, *map(setting_text, one.values)] for one in differing]
    text.append(columns_text(["", *LETTERS[: len(comparison.runs)]], rows, width))
    text.append("\nequal settings\n", "bold")
    same = [[one.name, setting_text(one.values[0])] for one in comparison.settings if not one.differs]
    text.append(columns_text(["", "all"], same, width))
    return text


def differences_text(comparison: Comparison, group: RunGroup, width: int) -> Text:
    """Each run's metrics with the differences to the first run; then groups of runs paired by seed."""
    text = Text()
    letters = LETTERS[: len(comparison.runs)]
    for split in comparison.splits:
        steps = sorted({step for step in split.steps if step is not None})
        text.append(f"{split.split} after step {', '.join(f'{step:,}' for step in steps)}\n", "bold")
        text.append(columns_text(["", *letters], [_metric_cells(row) for row in split.rows], width))
        if not split.same_pairs:
            text.append("evaluated on different pairs: the differences include those of the data\n", "italic")
        text.append("\n")
    if not comparison.splits:
        text.append("no run has been evaluated yet\n", "italic")
    for pairing in group.pairings():
        text.append("paired by seed: ", "bold")
        text.append(f"{visible(pairing.treated)} against {visible(pairing.baseline)}\n", "bold")
        for view in pairing.views:
            seeds = f"{len(view.seed_S)} seed{'s' if len(view.seed_S) > 1 else ''}"
            interval = view.interval_text if len(view.seed_S) > 1 else "no interval from one seed"
            text.append(f"  {view.metric.label:24} {view.gain_text:>14}   {interval}, {seeds}\n")
        text.append("\n")
    text.append(
        "in parentheses: the difference to the first run ± its standard error for independent pairs\n", "italic"
    )
    return text


def _metric_cells(row: MetricRow) -> list[str]:
    found = [row.metric.title]
    for place, value in enumerate(row.values):
        own = row.metric.number(value)
        difference, error = row.differences[place], row.difference_errors[place]
        if place and difference is not None:
            spread = f" ± {row.metric.number(error)}" if error is not None else ""
            own += f" ({row.metric.number(difference, signed=True)}{spread})"
        found.append(own)
    return found
