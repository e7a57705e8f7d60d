"""Several runs on one screen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabPane

from workbench.runs.directory import RunDirectory
from workbench.terminal import visible
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import LETTERS, Lens
from workbench.tui.compare.group import Compared
from workbench.tui.export import Table, plots_table
from workbench.tui.tabs import KeyFooter, PanedScreen, Panes, Reading, pane_keys
from workbench.tui.run.follow import Name
from workbench.tui.text import NOTHING, state_text
from workbench.views.comparison import Comparison, MetricRow, setting_text

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

PANES = ("curves", "settings", "differences")
REFRESH_S = 1.0
CATCH_UP_S = 0.1
GAP = 2
MOST_CELL = 32


class CompareScreen(PanedScreen):
    """Runs overlaid on one loss or metric; what they were told apart; what came out, with differences."""

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
    app: "Workbench"
    export_name = "comparison"

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self.compared = Compared(runs)
        self.lens = Lens()
        self.shown: Name = ("loss", "total")
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        """Which runs, the panes, the keys."""
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
        self.take_habits()
        self.tick()
        self.set_interval(REFRESH_S, self.tick)
        self.call_after_refresh(self.focus_pane)

    def tick(self) -> None:
        """Reads what is new in all of the runs."""
        if self.compared.poll():
            self.set_timer(CATCH_UP_S, self.tick)
        if self.is_current:
            self.draw()

    def draw(self) -> None:
        """Brings the head and the pane in front up to date."""
        if not self.children:
            return  # it is being closed
        self.query_one("#head", Static).update(self._head())
        basis = (self.compared.version, self.pane, self.shown, self.size.width)
        if basis == self._drawn:
            return
        self._drawn = basis
        self._draw_pane()
        self.offer_lens()

    def _draw_pane(self) -> None:
        if self.pane == "curves":
            self.query_one(Charts).show([self.compared.plot(self.shown)])
            return
        try:
            comparison = self.compared.comparison()
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)
            return
        if self.pane == "settings":
            self.query_one("#told", Static).update(settings_text(comparison, self.size.width - 4))
        else:
            self.query_one("#found", Static).update(differences_text(comparison, self.compared, self.size.width - 4))

    def _head(self) -> Text:
        text = Text()
        for letter, feed in zip(LETTERS, self.compared.feeds, strict=False):
            status = feed.status
            where = f", step {status.step:,} of {status.num_steps:,}" if status and status.num_steps else ""
            text.append(f"{letter} ", "bold")
            text.append(visible(feed.run.id))
            text.append(f"  {visible(feed.problem) or state_text(status, is_quiet=False) + where}\n", "dim")
        text.rstrip()
        return text

    def table(self) -> Table:
        """For export and copy."""
        if self.pane == "curves":
            return plots_table([self.compared.plot(self.shown)])
        comparison = self.compared.comparison()
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
        names = self.compared.names
        if names:
            place = names.index(self.shown) if self.shown in names else -by
            self.shown = names[(place + by) % len(names)]
            self.action_pane("curves")
            self.draw()


def settings_text(comparison: Comparison, width: int) -> Text:
    """The settings that differ, then those that are the same."""
    text = Text()
    differing = comparison.differing
    text.append("settings that differ\n" if differing else "no setting differs\n", "bold")
    rows = [[one.name, *map(setting_text, one.values)] for one in differing]
    text.append(columns_text(["", *LETTERS[: len(comparison.runs)]], rows, width))
    text.append("\nsettings that are the same\n", "bold")
    same = [[one.name, setting_text(one.values[0])] for one in comparison.settings if not one.differs]
    text.append(columns_text(["", "all"], same, width))
    return text


def differences_text(comparison: Comparison, compared: Compared, width: int) -> Text:
    """Each run's metrics with its difference to the first run's; then groups of runs paired by seed."""
    text = Text()
    letters = LETTERS[: len(comparison.runs)]
    for split in comparison.splits:
        steps = sorted({step for step in split.steps if step is not None})
        text.append(f"{split.split} after step {', '.join(f'{step:,}' for step in steps)}\n", "bold")
        text.append(columns_text(["", *letters], [_metric_cells(row) for row in split.rows], width))
        if not split.same_pairs:
            text.append("not all were measured on the same pairs: the differences are of the pairs too\n", "italic")
        text.append("\n")
    if not comparison.splits:
        text.append("no run has been evaluated yet\n", "italic")
    for pairing in compared.pairings():
        text.append("paired by seed: ", "bold")
        text.append(f"{visible(pairing.treated)} against {visible(pairing.baseline)}\n", "bold")
        for view in pairing.views:
            seeds = f"{len(view.seed_S)} seed{'s' if len(view.seed_S) > 1 else ''}"
            interval = view.interval_text if len(view.seed_S) > 1 else "no interval from one seed"
            text.append(f"  {view.metric.label:24} {view.gain_text:>14}   {interval}, {seeds}\n")
        text.append("\n")
    text.append(
        "in brackets: the difference to the first run, ± one standard error as of independent pairs\n", "italic"
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


def columns_text(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Text:
    """A table; where it is too wide, a row is its first cell with the others beneath."""
    clean = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *clean, strict=True)]
    text = Text()
    if not rows:
        return text
    if sum(widths) + GAP * len(widths) <= width:
        for place, line in enumerate([list(headings), *clean]):
            cells = [set_cell_size(cell, size) for cell, size in zip(line, widths, strict=True)]
            text.append((" " * GAP).join(cells).rstrip() + "\n", "" if place else "dim")
        return text
    for name, *values in clean:
        text.append(f"{name}\n")
        for letter, value in zip(headings[1:], values, strict=True):
            text.append(f"  {letter} ", "dim")
            text.append(f"{value or NOTHING}\n")
    return text
