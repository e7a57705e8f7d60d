"""The first screen: all runs of a folder, or its studies."""

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from workbench.errors import visible
from workbench.runs.directory import RunDirectory
from workbench.tui.dialogs import KeyFooter
from workbench.tui.home import fields
from workbench.tui.home.actions import HomeActions
from workbench.tui.home.board import Row
from workbench.tui.home.pickers import QueryInput
from workbench.tui.home.studies import KEY, studies_of, study_line
from workbench.tui.home.table import (
    columns,
    headline,
    needs,
    run_line,
    runs_table,
    spark_scale,
    with_sign,
)
from workbench.tui.host import OpenRun, OpenStudy, OpenWorkspace, is_in_view
from workbench.tui.label import Label
from workbench.tui.rows import Column, Headings, Line, Rows
from workbench.tui.text import Table
from workbench.views.metrics import metric_label
from workbench.views.query import completions

REFRESH_S = 1.0
CATCH_UP_S = 0.15
FIRST_BUDGET_S, BUDGET_S = 0.03, 0.1
START_STUDY = "workbench sweep --study icl_weight"
START = "workbench train --recipe clip-kd --detach"


class HomeScreen(HomeActions):
    """A live table of runs and studies: filter, sort, mark, open, compare."""

    DEFAULT_CSS = """
    HomeScreen #about { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    HomeScreen #empty { display: none; height: 1fr; padding: 1 2; }
    HomeScreen #filter { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
    HomeScreen.-filtering #filter { display: block; }
    HomeScreen.-empty #empty { display: block; }
    HomeScreen.-empty #runs, HomeScreen.-empty #headings { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("w", "workspace", "workspace"),
        Binding("c", "compare", "compare the marked runs alone", show=False),
        Binding("slash", "filter", "filter", key_display="/"),
        *HomeActions.KEYS,
        Binding("escape", "clear", "clear the filter, then the marks", show=False),
    ]
    export_name = "runs"

    def __init__(self, runs_dir: Path) -> None:
        super().__init__(runs_dir)
        self.marked: list[str] = []
        self._line_cache: dict[str, tuple[object, Line]] = {}  # by run: what its line depends on, and the line

    def compose(self) -> ComposeResult:
        yield Label(id="about")
        yield Headings(id="headings")
        yield Rows(id="runs")
        yield Label(id="empty")
        yield QueryInput(self._completions, id="filter")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.show_filter()
        self.query_one(Rows).focus()
        self.set_interval(REFRESH_S, self.tick)

    def on_screen_resume(self) -> None:
        """Refresh when the screen is shown, for the first time or again."""
        self.tick()

    def on_resize(self) -> None:
        self.draw()

    def tick(self) -> None:
        """Poll the folder; if logs are long, continue after a short pause in which keys are handled."""
        if not is_in_view(self) and self.board.rows:
            return  # another screen covers this one
        if self.board.poll(BUDGET_S if self.board.rows else FIRST_BUDGET_S):
            self.set_timer(CATCH_UP_S, self.tick)
        self.draw()

    def draw(self) -> None:
        """Update the screen; only rows that changed are redrawn."""
        if not self.children:
            return  # the screen is being closed
        preferences = self.app.preferences
        metric = headline(self.board, preferences)
        need = needs(self.board, of_studies=preferences.view == "studies", picked=preferences.columns)
        shown = columns(self.size.width, metric, need)
        rows = self.rows()
        self.marked = [run for run in self.marked if run in self.board.rows]
        lines = self._lines(rows, shown, metric)
        self.set_class(not lines, "-empty")
        if not lines:
            self.query_one("#empty", Label).update(Text(self._why_empty()))
        self.query_one("#about", Label).update(self._about(rows), layout=False)
        self.query_one(Headings).show(with_sign(shown, preferences.sort, is_reversed=preferences.is_reversed))
        self.query_one(Rows).show(shown, lines)

    def _lines(self, rows: list[Row], shown: list[Column], metric: str) -> dict[str, Line]:
        """The lines of the view: runs, studies, or each study followed by its runs."""
        view = self.app.preferences.view
        if view == "runs":
            return self._run_lines(rows, shown, metric)
        lines: dict[str, Line] = {}
        for study in studies_of(self.board, self.app.preferences.filter if view == "studies" else ""):
            own = [row for row in rows if row.origin and row.origin.study == study.name]
            if view == "studies" or own:
                lines[KEY + study.name] = study_line(study, shown, metric)
            if view == "by study":
                lines |= self._run_lines(own, shown, metric)
        if view == "by study":
            lines |= self._run_lines([row for row in rows if row.origin is None], shown, metric)
        return lines

    def _run_lines(self, rows: list[Row], shown: list[Column], metric: str) -> dict[str, Line]:
        """The lines of runs. Lines of ended runs are cached: with hundreds of runs, most lines never change."""
        lines: dict[str, Line] = {}
        scale = spark_scale(self.board, metric)
        for row in rows:
            is_marked = row.run.id in self.marked
            basis = (shown, metric, scale, row.version, is_marked)
            before = self._line_cache.get(row.run.id)
            if row.is_live or before is None or before[0] != basis:
                before = (basis, run_line(row, shown, metric, scale, is_marked=is_marked))
                self._line_cache[row.run.id] = before
            lines[row.run.id] = before[1]
        return lines

    def _about(self, rows: list[Row]) -> Text:
        preferences, board = self.app.preferences, self.board
        if self.query_problem:
            return Text(visible(self.query_problem), "bold")
        typed = self.query_one("#filter", Input).value if self.has_class("-filtering") else ""
        if typed and (words := self._completions(typed)):
            return Text("  ".join(map(visible, words)))
        num_live = sum(row.is_live for row in board.rows.values())
        total = f"{len(board.rows)} run{'' if len(board.rows) == 1 else 's'}"
        count = total if len(rows) == len(board.rows) else f"{len(rows)} of {total}"
        parts = [
            visible(board.problem) or count,
            f"{num_live} live" if num_live else "",
            f"{len(self.marked)} marked" if self.marked else "",
            preferences.view if preferences.view != "runs" else "",
            self._order_text() if preferences.view != "studies" else "",
            f"filter: {visible(preferences.filter)}" if preferences.filter else "",
            metric_label(headline(board, preferences)).title,
        ]
        return Text(" · ".join(filter(None, parts))).append(f"  {visible(str(board.runs_dir))}", "dim")

    def _why_empty(self) -> str:
        if self.board.problem:
            return self.board.problem
        if self.app.preferences.view == "studies" and not self.app.preferences.filter:
            return f"no run here belongs to a study; start one with\n\n    {START_STUDY}\n\nu shows the runs"
        if self.board.rows:
            wanted = visible(self.app.preferences.filter)
            where = "words are searched in name, state, recipe, study and cell"
            return f"no run matches “{wanted}”: {where}; esc shows all runs"
        folder = visible(str(self.board.runs_dir))
        return f"{folder} has no runs yet.\n\nPress N to start one, or run in another terminal\n\n    {START}"

    @property
    def run_at_cursor(self) -> RunDirectory | None:
        """The run at the cursor; None on a study or in an empty table."""
        key = self.query_one(Rows).key
        return self.board.rows[key].run if key in self.board.rows else None

    def _order_text(self) -> str:
        preferences = self.app.preferences
        return f"by {visible(preferences.sort)}" + (", reversed" if preferences.is_reversed else "")

    def _completions(self, text: str) -> list[str]:
        return completions(text, fields.names(self.board), fields.values(self.board))

    def table(self) -> Table:
        """The data to export or copy."""
        return runs_table(self.board, self.rows(), self.app.preferences.columns)

    def on_rows_chosen(self) -> None:
        key = self.query_one(Rows).key or ""
        if key.startswith(KEY):
            self.post_message(OpenStudy(key.removeprefix(KEY), self.board.runs_dir))
        elif (run := self.run_at_cursor) is not None:
            self.post_message(OpenRun(run))

    def action_mark(self) -> None:
        if (run := self.run_at_cursor) is not None:
            if run.id in self.marked:
                self.marked.remove(run.id)
            else:
                self.marked.append(run.id)
            self.query_one(Rows).action_move(1)
            self.draw()

    def action_compare(self) -> None:
        if len(self.marked) < 2:
            self.app.show_notice("mark two or more runs with space, then compare them with c")
            return
        runs = [self.board.rows[run].run for run in self.marked]
        self.post_message(OpenWorkspace(self.board.runs_dir, runs, only=True))

    def action_workspace(self) -> None:
        """The marked runs, or those that the query selects, among all runs of the folder."""
        if not self.board.rows:
            return
        marked = [self.board.rows[run].run for run in self.marked]
        selected = [row.run for row in self.rows()] if self.app.preferences.filter else []
        self.post_message(OpenWorkspace(self.board.runs_dir, marked or selected))

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.set_query(event.value)
        self.query_one(Rows).move_to(0)
        self.draw()

    def show_filter(self) -> None:
        self.query_one("#filter", Input).value = self.app.preferences.filter

    def on_input_submitted(self) -> None:
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.remove_class("-filtering")
        self.query_one(Rows).focus()
        self.app.save_preferences()

    def action_clear(self) -> None:
        if self.has_class("-filtering") or self.app.preferences.filter:
            self.query_one("#filter", Input).value = ""
            self._leave_filter()
        else:
            self.marked = []
        self.draw()
