"""The screen that compares several runs: their curves, settings and metrics, with repeats paired by seed."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TabPane

from workbench.config.toml import read_toml
from workbench.errors import visible
from workbench.figures.style import palette
from workbench.runs.directory import RunDirectory
from workbench.statistics.intervals import seed_gain
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Plot, curve, letter_of, plots_table
from workbench.tui.dialogs import KeyFooter
from workbench.tui.follow import Name, RunFollower
from workbench.tui.host import is_in_view
from workbench.tui.label import Label
from workbench.tui.tabs import LENS_KEYS, PanedScreen, Panes, Reading, pane_keys
from workbench.tui.text import Table, state_text
from workbench.tui.workspace.texts import differences_text, settings_text
from workbench.views.comparison import ComparedRun, Comparison, Evaluated, compare_runs, setting_text
from workbench.views.metrics import in_order, metric_label
from workbench.views.results import PairedView, ResultRow, paired_view

PANES = ("curves", "settings", "differences")
REFRESH_S = 1.0
CATCH_UP_S = 0.1
IGNORED = ("recipe", "seed", "data.seed")  # settings that do not decide whether runs are repeats of one another
LABELS = ("machine.", "sweep.", "log.")  # nor do settings that begin so
SPLIT = "validation"
MOST_LINES = 6  # of the header with a line for each run


class RunGroup:
    """Follows two or more runs and compares them."""

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        self.followers = [RunFollower(run) for run in runs]
        self.colors = palette([run.id for run in runs])

    def poll(self) -> bool:
        """Read all runs for a while; return whether there is more to read now."""
        # One budget for all: keys are handled between polls.
        has_more = [follower.poll(0.04 / len(self.followers)) for follower in self.followers]
        return any(has_more)

    @property
    def version(self) -> int:
        """Increases when any run has new events."""
        return sum(follower.num_polls for follower in self.followers)

    @property
    def names(self) -> list[Name]:
        """The curves that at least one run has: losses, then metrics, then the rest."""
        traces = [item for follower in self.followers for item in follower.history.traces.items()]
        found = list(dict.fromkeys(name for name, trace in traces if len(trace)))
        losses = [name for name in found if name[0] == "loss"]
        splits = sorted({group for group, _ in found if group.startswith("metrics/")}, reverse=True)  # validation first
        metrics = [(split, name) for split in splits for name in in_order({n for group, n in found if group == split})]
        return [*losses, *metrics, *(name for name in found if name[0] in ("speed", "scales", "masks"))]

    def plot(self, name: Name) -> Plot:
        """A plot of one curve of every run that has it."""
        group, what = name
        label = metric_label(what) if group.startswith("metrics/") else None
        factor = label.factor if label else 1.0
        # A run keeps its letter and color in every plot, also where another run lacks the curve.
        curves = [
            curve(one.run.id, self.colors[one.run.id], one.history.traces[name], factor, letter_of(place))
            for place, one in enumerate(self.followers)
            if name in one.history.traces
        ]
        title = f"{label.label} on {group.partition('/')[2]}" if label else _title(group, what)
        return Plot(title, tuple(curves), label.unit if label else "", may_log=group == "loss", may_smooth=not label)

    def compared(self) -> list[ComparedRun]:
        """The runs with their settings (empty if unreadable) and newest evaluations."""
        found = []
        for follower in self.followers:
            evaluations = {
                split: Evaluated(event.step, event.num_pairs, event.metrics, event.errors)
                for split, event in follower.history.evaluations.items()
            }
            found.append(ComparedRun(follower.run.id, _settings(follower.run), evaluations))
        return found

    def comparison(self) -> Comparison:
        """The comparison of all runs."""
        return compare_runs(self.compared())

    def pairings(self) -> list[list[PairedView]]:
        """The first set of repeats against each other one, metric by metric, where they share seeds.

        A set is named by its settings that differ.
        """
        groups: dict[str, dict[int, dict[str, float]]] = {}
        deciding = [
            setting
            for setting in self.comparison().differing
            if setting.name not in IGNORED and not setting.name.startswith(LABELS)
        ]
        for place, run in enumerate(self.compared()):
            name = ", ".join(f"{setting.name}={setting_text(setting.values[place])}" for setting in deciding)
            evaluated = run.evaluations.get(SPLIT)
            if isinstance(seed := run.settings.get("seed"), int) and evaluated:
                groups.setdefault(name, {})[seed] = dict(evaluated.metrics)
        first, *others = groups or [""]
        return [views for other in others if (views := _paired(first, other, groups))]


def _paired(first: str, other: str, groups: dict[str, dict[int, dict[str, float]]]) -> list[PairedView]:
    seeds = sorted(groups[first].keys() & groups[other].keys())
    rows = [ResultRow(name, seed, groups[name][seed]) for name in (first, other) for seed in seeds]
    views = []
    for metric in in_order({name for row in rows for name in row.metrics}):
        try:
            values = [[groups[name][seed][metric] for seed in seeds] for name in (first, other)]
            views.append(paired_view(rows, metric, first, other, seed_gain(*values)))
        except (KeyError, ValueError):  # a run lacks the metric, or a value is not finite
            continue
    return views


def _settings(run: RunDirectory) -> dict[str, Any]:
    try:
        table = read_toml(run.config_file)
    except ValueError:
        return {}
    table.pop("sweep", None)
    return table


def _title(group: str, what: str) -> str:
    if group == "loss":
        return "loss" if what == "total" else f"{what}, weighted"
    return what.replace("_", " ") if group == "speed" else f"{group}: {what}"


class CompareScreen(PanedScreen):
    """Curves of all runs in one chart, the settings that differ, and metrics with their differences."""

    DEFAULT_CSS = """
    CompareScreen #head {
        height: auto; max-height: 40%; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *pane_keys(PANES),
        Binding("m", "turn(1)", "next curve"),
        Binding("M", "turn(-1)", "previous curve", show=False),
        *LENS_KEYS,
    ]
    PANES = PANES
    export_name = "comparison"

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self.group = RunGroup(runs)
        self.shown: Name = ("loss", "total")
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Label(id="head")
        with Panes(id="panes"):
            with TabPane("1 curves", id="curves"):
                yield Charts(self.lens, classes="-filling", id="charts")
            with TabPane("2 settings", id="settings"), Reading():
                yield Label(id="settings-text")
            with TabPane("3 differences", id="differences"), Reading():
                yield Label(id="differences-text")
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
        if is_in_view(self):
            self.draw()

    def draw(self) -> None:
        """Update the header and, if its data changed, the active pane."""
        if not self.children:
            return  # the screen is being closed
        self.query_one("#head", Label).update(self._head())
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
        width = self.size.width - 4
        is_settings = self.pane == "settings"
        text = (
            settings_text(comparison, width)
            if is_settings
            else differences_text(comparison, self.group.pairings(), width)
        )
        self.query_one(f"#{self.pane}-text", Label).update(text)

    def _head(self) -> Text:
        """Every run with its letter and state: a line each, or for many runs as many on a line as fit."""
        entries = [_entry(place, one, self.group.colors) for place, one in enumerate(self.group.followers)]
        if len(entries) <= MOST_LINES:
            return Text("\n").join(entries)
        width = max(entry.cell_len for entry in entries) + 2
        per_line = max(1, (self.size.width - 2) // width)
        for entry in entries:
            entry.pad_right(width - entry.cell_len)
        lines = [Text("").join(entries[start : start + per_line]) for start in range(0, len(entries), per_line)]
        return Text("\n").join(lines)

    def table(self) -> Table:
        """The data to export or copy."""
        if self.pane == "curves":
            return plots_table(self.plots)
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


def _entry(place: int, follower: RunFollower, colors: Mapping[str, str]) -> Text:
    """A run's letter in its color, its id, and its state."""
    status = follower.status
    where = f", step {status.step:,} of {status.num_steps:,}" if status and status.num_steps else ""
    if status is not None and status.state == "finished":
        where = ""
    text = Text.assemble((f"{letter_of(place)} ", f"bold {colors[follower.run.id]}"), visible(follower.run.id))
    return text.append(f"  {visible(follower.problem) or state_text(status, is_quiet=False) + where}", "dim")
