"""The screen of one study: its table of cells, its runs, its report and its learning curves."""

import asyncio
import time
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabPane

from workbench.runs.directory import RunDirectory
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import plots_table
from workbench.tui.dialogs import KeyFooter
from workbench.tui.host import OpenRun, OpenWorkspace, is_in_view
from workbench.tui.label import Label
from workbench.tui.rows import DOWN, UP, Column, Headings, Line, Rows, sorted_lines
from workbench.tui.study.actions import StudyActions
from workbench.tui.study.forest import AROUND as FOREST_AROUND
from workbench.tui.study.forest import Forest, forest_rows
from workbench.tui.study.panes import (
    LEGEND,
    cell_columns,
    cell_lines,
    found_text,
    head_text,
    history_plots,
    run_columns,
    run_lines,
)
from workbench.tui.study.state import StudyState, read_study
from workbench.tui.tabs import Panes, Reading, pane_keys
from workbench.tui.text import Table
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

PANES = ("table", "runs", "found", "history")
TICK_S = 1.0
LEAST_PAUSE_S = 3.0
ROWS_AROUND = 8  # of the table of cells and the forest plot: header, tabs, headings, legend and footer
LEAST_ROWS = 4  # of cells, in the table and in the forest plot
SHARE = 0.03  # most of the time spent reading: a study of hundreds of runs is read less often


class StudyScreen(StudyActions):
    """Follows one study while the screen is open."""

    DEFAULT_CSS = """
    StudyScreen #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    StudyScreen #legend { height: 1; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *pane_keys(PANES),
        Binding("m", "metric(1)", "metric"),
        Binding("M", "metric(-1)", "previous metric", show=False),
        Binding("f", "forest", "forest plot", show=False),
        Binding("w", "workspace", "workspace"),
        *StudyActions.KEYS,
    ]
    PANES = PANES

    def __init__(self, name: str, runs_dir: Path) -> None:
        super().__init__(name, runs_dir)
        self._problem = ""
        self._metric = ""
        self._order: dict[str, tuple[str, bool]] = {}  # by pane: the column of the order, and whether it is reversed
        self._has_forest = True
        self._next_read_s = 0.0  # monotonic time

    def compose(self) -> ComposeResult:
        yield Label(id="head")
        with Panes(id="panes"):
            with TabPane("1 table", id="table"):
                yield Headings(id="cells-headings")
                yield Rows(id="cells")
                yield Static(LEGEND, id="legend", markup=False)
                yield Forest(id="forest")
            with TabPane("2 runs", id="runs"):
                yield Headings(id="each-headings")
                yield Rows(id="each")
            with TabPane("3 found", id="found"), Reading():
                yield Label(id="report")
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
        """The metric shown: the chosen one, else the study's main metric; None before the first read."""
        if self.study_state is None:
            return None
        metrics = self.study_state.report.table.metrics
        return next((one for one in metrics if one.name == self._metric), self.study_state.report.main)

    def tick(self) -> None:
        """Read the study again, if the last reading is old enough."""
        if is_in_view(self) and time.monotonic() >= self._next_read_s:
            self._next_read_s = float("inf")  # until this reading ends
            self.run_worker(self._read(), exclusive=True, group="study", exit_on_error=False)

    async def _read(self) -> None:
        start_s = time.monotonic()
        try:
            self.study_state = await asyncio.to_thread(read_study, self.study_name, self.runs_dir, self._metric)
            self._problem = ""
        except (OSError, ValueError) as error:
            self._problem = str(error)
        finally:
            took_s = time.monotonic() - start_s
            self._next_read_s = time.monotonic() + max(LEAST_PAUSE_S, took_s / SHARE)
        self.draw()

    def draw(self) -> None:
        """Update the header and the active pane."""
        if not self.children:
            return  # the screen is being closed
        found = self.study_state
        head = head_text(found, self.study_name, self._problem, self.metric)
        self.query_one("#head", Label).update(head, layout=False)
        if found is not None:
            getattr(self, f"_draw_{self.pane}")(found)

    def _draw_table(self, found: StudyState) -> None:
        if (metric := self.metric) is not None:
            columns = cell_columns(found, metric, self.size.width)
            self._show_rows("cells", columns, cell_lines(found, metric, columns))
            self._draw_forest(found, metric)

    def _draw_forest(self, found: StudyState, metric: MetricLabel) -> None:
        """The forest plot in the order of the table, where it leaves the table enough rows."""
        table, forest, rows = found.report.table, self.query_one(Forest), self.query_one("#cells", Rows)
        cells = {cell.name: cell for cell in table.cells}
        ordered = [cells[name] for name in rows.lines]
        room = self.size.height - ROWS_AROUND
        height = min(len(ordered) + FOREST_AROUND, room - min(len(ordered), max(LEAST_ROWS, room // 2)))
        forest.display = self._has_forest and height >= FOREST_AROUND + min(len(ordered), LEAST_ROWS)
        forest.styles.height = max(1, height)
        if forest.display:
            forest.show(forest_rows(table, metric, ordered), metric, table.baseline, rows.key or "")

    def on_rows_moved(self) -> None:
        if self.study_state is not None and self.metric is not None and self.pane == "table":
            self._draw_forest(self.study_state, self.metric)

    def action_forest(self) -> None:
        self._has_forest = not self._has_forest
        self.draw()

    def _draw_runs(self, found: StudyState) -> None:
        if (metric := self.metric) is not None:
            columns = run_columns(found, metric, self.size.width)
            self._show_rows("each", columns, run_lines(found, metric, columns))

    def _show_rows(self, table: str, columns: list[Column], lines: dict[str, Line]) -> None:
        key, is_reversed = self._order.get(self.pane, ("", False))
        sign = UP if is_reversed else DOWN
        signed = [one._replace(sign=sign) if one.key == key else one for one in columns]
        self.query_one(f"#{table}-headings", Headings).show(signed)
        self.query_one(f"#{table}", Rows).show(columns, sorted_lines(lines, columns, key, is_reversed=is_reversed))

    def on_headings_clicked(self, event: Headings.Clicked) -> None:
        """Sort by the column, then in reverse, then in the study's order again."""
        key, is_reversed = self._order.get(self.pane, ("", False))
        if event.key != key:
            self._order[self.pane] = (event.key, False)
        elif not is_reversed:
            self._order[self.pane] = (key, True)
        else:
            del self._order[self.pane]
        self.draw()

    def _draw_found(self, found: StudyState) -> None:
        self.query_one("#report", Label).update(found_text(found, self.size.width - 4))

    def _draw_history(self, found: StudyState) -> None:
        self.query_one("#curves", Charts).show(history_plots(found, self.metric))

    def on_tabbed_content_tab_activated(self) -> None:
        self.draw()

    def table(self) -> Table:
        """The data to export or copy: all cells and metrics, all runs, the points of the curves, or the report."""
        import csv

        from workbench.results.export import cells_csv, runs_csv

        if self.study_state is None:
            return ["line"], []
        if self.pane == "history":
            return plots_table(self.plots)
        if self.pane == "found":
            return ["line"], [[line] for line in found_text(self.study_state, 1000).plain.splitlines()]
        make = cells_csv if self.pane == "table" else runs_csv
        headings, *rows = csv.reader(make(self.study_state.report.table).splitlines())
        return headings, rows

    def action_metric(self, by: int) -> None:
        if (metric := self.metric) is not None and self.study_state is not None:
            names = [one.name for one in self.study_state.report.table.metrics]
            self._metric = names[(names.index(metric.name) + by) % len(names)]
            self._next_read_s = 0.0  # the learning curves of this metric are not loaded yet
            self.draw()

    def on_rows_chosen(self) -> None:
        """Open the run at the cursor, or all runs of the cell side by side."""
        _, names = self.cells_at_cursor()
        runs = [RunDirectory(self.runs_dir.absolute() / run) for run in names]
        if len(runs) > 1:
            self.post_message(OpenWorkspace(self.runs_dir, runs, only=True))
        elif runs:
            self.post_message(OpenRun(runs[0]))
        else:
            self.app.show_notice("no run of this cell has started yet")

    def action_workspace(self) -> None:
        """All runs of the study at once."""
        if self.study_state is not None:
            cells = self.study_state.report.table.cells
            names = [one.run for cell in cells for one in cell.replicates if one.run]
            runs = [RunDirectory(self.runs_dir.absolute() / name) for name in names]
            self.post_message(OpenWorkspace(self.runs_dir, runs, only=True))

    def cells_at_cursor(self) -> tuple[list[StudyCell], list[str]]:
        """The cell at the cursor and the ids of its runs; in the pane of runs, that run alone; else none."""
        table = {"table": "#cells", "runs": "#each"}.get(self.pane)
        key = self.query_one(table, Rows).key if table else None
        cells = self.study_state.report.table.cells if self.study_state else ()
        if self.pane == "runs":
            found = [cell for cell in cells if any(one.run == key for one in cell.replicates)]
            return found, [key] if key else []
        found = [cell for cell in cells if cell.name == key]
        return found, [one.run for cell in found for one in cell.replicates if one.run]
