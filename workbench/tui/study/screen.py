"""One study: its table filling cell by cell, its runs, what it has found, its history, and what can be asked of it."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabPane

from workbench.runs.directory import RunDirectory
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Lens
from workbench.tui.export import Table, plots_table
from workbench.tui.tabs import KeyFooter, Panes, Reading, pane_keys
from workbench.tui.rows import Rows
from workbench.tui.study.state import StudyState, read_study
from workbench.tui.study.panes import (
    LEGEND,
    found_text,
    head_text,
    heading_text,
    history_plots,
    run_headings,
    run_lines,
    table_headings,
    table_lines,
)
from workbench.tui.study.actions import StudySteering
from workbench.tui.text import hex_of
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

PANES = ("table", "runs", "found", "history")
TICK_S = 1.0
LEAST_PAUSE_S = 3.0
SHARE = 0.03  # of the time that reading may take: a study of hundreds of runs is read less often


class StudyScreen(StudySteering):
    """Follows one study until it is left."""

    DEFAULT_CSS = """
    StudyScreen #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    StudyScreen .headings { height: 1; text-style: bold; background: $surface; text-wrap: nowrap; text-overflow: clip; }
    StudyScreen #legend { height: 1; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    StudyScreen Rows { height: 1fr; scrollbar-size-horizontal: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "back", key_display="esc"),
        *pane_keys(PANES),
        Binding("m", "metric(1)", "metric"),
        Binding("M", "metric(-1)", "previous metric", show=False),
        *StudySteering.KEYS,
    ]
    PANES = PANES
    app: "Workbench"

    def __init__(self, name: str, runs_dir: Path) -> None:
        super().__init__()
        self.study_name, self.runs_dir = name, runs_dir
        self.studied: StudyState | None = None
        self.lens = Lens()
        self._problem = ""
        self._metric = ""
        self._read_from_s = 0.0  # not again before

    def compose(self) -> ComposeResult:
        """How it stands, the panes, the keys."""
        yield Static("", id="head", markup=False)
        with Panes(id="panes"):
            with TabPane("1 table", id="table"):
                yield Static("", id="cells-headings", classes="headings", markup=False)
                yield Rows(id="cells")
                yield Static(LEGEND, id="legend", markup=False)
            with TabPane("2 runs", id="runs"):
                yield Static("", id="each-headings", classes="headings", markup=False)
                yield Rows(id="each")
            with TabPane("3 found", id="found"), Reading():
                yield Static("", id="said", markup=False)
            with TabPane("4 history", id="history"):
                yield Charts(self.lens, classes="-filling", id="curves")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.draw()
        self.tick()
        self.set_interval(TICK_S, self.tick)
        self.call_after_refresh(self.focus_pane)

    def on_resize(self) -> None:
        self.draw()

    @property
    def export_name(self) -> str:
        """The stem of exported files."""
        return f"{self.study_name}-{self.pane}"

    @property
    def metric(self) -> MetricLabel | None:
        """The metric that is shown: the one that was chosen, else the one that the study is about."""
        if self.studied is None:
            return None
        metrics = self.studied.report.table.metrics
        return next((one for one in metrics if one.name == self._metric), self.studied.report.main)

    def tick(self) -> None:
        """Reads anew, where the last reading is old enough."""
        if self.is_current and time.monotonic() >= self._read_from_s:
            self._read_from_s = float("inf")  # until this reading has ended
            self.run_worker(self._read(), exclusive=True, group="study", exit_on_error=False)

    async def _read(self) -> None:
        began_s = time.monotonic()
        try:
            self.studied = await asyncio.to_thread(read_study, self.study_name, self.runs_dir, self._metric)
            self._problem = ""
        except (OSError, ValueError) as error:
            self._problem = str(error)
        finally:
            took_s = time.monotonic() - began_s
            self._read_from_s = time.monotonic() + max(LEAST_PAUSE_S, took_s / SHARE)
        self.draw()

    def draw(self) -> None:
        """Brings the head and the pane in front up to date."""
        if not self.children:
            return  # it is being closed
        found = self.studied
        head = head_text(found, self.study_name, self._problem, self.metric)
        self.query_one("#head", Static).update(head, layout=False)
        if found is not None:
            getattr(self, f"_draw_{self.pane}")(found)

    def _tones(self, name: str) -> str:
        return hex_of(self.app.get_css_variables(), name)

    def _draw_table(self, found: StudyState) -> None:
        if (metric := self.metric) is None:
            return
        headings = table_headings(found, metric, self.size.width)
        self.query_one("#cells-headings", Static).update(heading_text(headings), layout=False)
        self.query_one("#cells", Rows).show(table_lines(found, metric, headings, self._tones))

    def _draw_runs(self, found: StudyState) -> None:
        if (metric := self.metric) is None:
            return
        headings = run_headings(found, metric, self.size.width)
        self.query_one("#each-headings", Static).update(heading_text(headings), layout=False)
        self.query_one("#each", Rows).show(run_lines(found, metric, headings, self._tones))

    def _draw_found(self, found: StudyState) -> None:
        self.query_one("#said", Static).update(found_text(found, self.size.width - 4))

    def _draw_history(self, found: StudyState) -> None:
        self.query_one("#curves", Charts).show(history_plots(found, self.metric))

    def on_tabbed_content_tab_activated(self) -> None:
        self.draw()

    def table(self) -> Table:
        """For export and copy: every cell and metric, every run, the points of the curves, or the lines."""
        import csv

        from workbench.report.tables import cells_csv, runs_csv

        if self.studied is None:
            return ["line"], []
        if self.pane == "history":
            return plots_table(self.query_one("#curves", Charts).plots)
        if self.pane == "found":
            return ["line"], [[line] for line in found_text(self.studied, 1000).plain.splitlines()]
        make = cells_csv if self.pane == "table" else runs_csv
        headings, *rows = csv.reader(make(self.studied.report.table).splitlines())
        return headings, rows

    def action_metric(self, by: int) -> None:
        if (metric := self.metric) is not None and self.studied is not None:
            names = [one.name for one in self.studied.report.table.metrics]
            self._metric = names[(names.index(metric.name) + by) % len(names)]
            self._read_from_s = 0.0  # its learning curves
            self.draw()

    def on_rows_chosen(self) -> None:
        """Opens a run, or the runs of a cell side by side."""
        from workbench.tui.compare.screen import CompareScreen
        from workbench.tui.run.screen import RunScreen

        _, names = self.cells_at_cursor()
        runs = [RunDirectory(self.runs_dir.absolute() / run) for run in names]
        if len(runs) > 1:
            self.app.push_screen(CompareScreen(runs))
        elif runs:
            self.app.push_screen(RunScreen(runs[0]))
        else:
            self.app.say("no run of this cell has begun yet")

    def cells_at_cursor(self) -> tuple[list[StudyCell], list[str]]:
        """The cell at the cursor and its runs; of the pane of runs that run alone. Other panes have no cursor."""
        table = {"table": "#cells", "runs": "#each"}.get(self.pane)
        key = self.query_one(table, Rows).key if table else None
        cells = self.studied.report.table.cells if self.studied else ()
        if self.pane == "runs":
            found = [cell for cell in cells if any(one.run == key for one in cell.replicates)]
            return found, [key] if key else []
        found = [cell for cell in cells if cell.name == key]
        return found, [one.run for cell in found for one in cell.replicates if one.run]
