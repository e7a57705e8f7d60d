"""The first screen: all runs, live ones first."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, get_args

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, Static

from workbench.runs.directory import RunDirectory
from workbench.terminal import visible
from workbench.tui.export import Table
from workbench.tui.home.board import Board, Row
from workbench.tui.home.studies import KEY, studies_of, study_line
from workbench.tui.home.table import SORTS, Column, columns, headline, line, needs, next_metric, ordered, values
from workbench.tui.tabs import KeyFooter
from workbench.tui.preferences import View
from workbench.tui.rows import GAP, Line, Rows, clipped
from workbench.tui.text import hex_of
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

REFRESH_S = 1.0
CATCH_UP_S = 0.15
FIRST_BUDGET_S, BUDGET_S = 0.03, 0.1
VIEWS: tuple[View, ...] = get_args(View)
START_STUDY = "workbench sweep --study icl_weight"
START = "workbench train --recipe clip-kd --detach"


class HomeScreen(Screen[None]):
    """Runs in a table that refreshes itself: filter, sort, mark, open, compare."""

    DEFAULT_CSS = """
    HomeScreen #about { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    HomeScreen #headings { height: 1; text-style: bold; background: $surface; text-wrap: nowrap; text-overflow: clip; }
    HomeScreen #runs { height: 1fr; scrollbar-size-horizontal: 0; }
    HomeScreen #empty { display: none; height: 1fr; padding: 1 2; }
    HomeScreen #filter { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
    HomeScreen.-filtering #filter { display: block; }
    HomeScreen.-empty #empty { display: block; }
    HomeScreen.-empty #runs, HomeScreen.-empty #headings { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("c", "compare", "compare"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort", "sort"),
        Binding("m", "metric", "metric"),
        Binding("u", "view", "studies"),
        Binding("N", "new", "start a run, or of the studies a sweep", show=False),
        Binding("escape", "clear", "clear the filter, then the marks", show=False),
    ]
    app: "Workbench"
    export_name = "runs"

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.board = Board(runs_dir)
        self.marked: list[str] = []
        self._made: dict[str, tuple[object, Line]] = {}  # each run's line, and what it was made from

    def compose(self) -> ComposeResult:
        """A line about the folder, the table, the filter and the keys."""
        yield Static("", id="about", markup=False)
        yield Static("", id="headings", markup=False)
        yield Rows(id="runs")
        yield Static("", id="empty", markup=False)
        yield Input(
            placeholder="words in the name, state, recipe, study or cell",
            id="filter",
            compact=True,
            select_on_focus=False,
        )
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one("#filter", Input).value = self.app.memory.filter
        self.query_one(Rows).focus()
        self.set_interval(REFRESH_S, self.tick)

    def on_screen_resume(self) -> None:
        """It is in front now, for the first time or again."""
        self.tick()

    def on_resize(self, event: events.Resize) -> None:
        del event
        self.draw()

    def tick(self) -> None:
        """Looks at the folder; where logs are long, reads on soon."""
        if not self.is_current and self.board.rows:
            return  # another screen is in front
        if self.board.poll(BUDGET_S if self.board.rows else FIRST_BUDGET_S):
            self.set_timer(CATCH_UP_S, self.tick)
        self.draw()

    def draw(self) -> None:
        """Brings the screen up to date; only what has changed is touched."""
        if not self.children:
            return  # it is being closed
        memory = self.app.memory
        metric = headline(self.board, memory)
        shown = columns(self.size.width, metric, needs(self.board, of_studies=memory.view == "studies"))
        rows = ordered(self.board, memory)
        self.marked = [run for run in self.marked if run in self.board.rows]
        lines = self._lines(rows, shown, metric)
        self.set_class(not lines, "-empty")
        if not lines:
            self.query_one("#empty", Static).update(Text(self._why_empty()))
        self.query_one("#about", Static).update(self._about(rows), layout=False)
        heading = "".join(" " * GAP + clipped(column.heading, column.width) for column in shown)[GAP - 1 :]
        self.query_one("#headings", Static).update(Text(heading), layout=False)
        self.query_one(Rows).show(lines)

    def _lines(self, rows: list[Row], shown: list[Column], metric: str) -> dict[str, Line]:
        """The runs, the studies, or each study with its runs beneath."""
        view = self.app.memory.view
        if view == "runs":
            return self._run_lines(rows, shown, metric)
        colors = self.app.get_css_variables()
        lines: dict[str, Line] = {}
        for study in studies_of(self.board, self.app.memory.filter if view == "studies" else ""):
            own = [row for row in rows if row.origin and row.origin.study == study.name]
            if view == "studies" or own:
                lines[study.key] = study_line(study, shown, metric, tones=lambda name: hex_of(colors, name))
            if view == "by study":
                lines |= self._run_lines(own, shown, metric)
        if view == "by study":
            lines |= self._run_lines([row for row in rows if row.origin is None], shown, metric)
        return lines

    def _run_lines(self, rows: list[Row], shown: list[Column], metric: str) -> dict[str, Line]:
        """Lines of runs that have ended are made once, and again when something about them changes."""
        colors = self.app.get_css_variables()
        look = (shown, metric, self.app.theme)
        lines: dict[str, Line] = {}
        for row in rows:
            is_marked = row.run.id in self.marked
            basis = (look, row.version, is_marked)
            before = self._made.get(row.run.id)
            if row.is_live or before is None or before[0] != basis:
                made = line(row, shown, metric, is_marked=is_marked, tones=lambda name: hex_of(colors, name))
                self._made[row.run.id] = before = (basis, made)
            lines[row.run.id] = before[1]
        return lines

    def _about(self, rows: list[Row]) -> Text:
        memory, board = self.app.memory, self.board
        num_live = sum(row.is_live for row in board.rows.values())
        total = f"{len(board.rows)} run{'' if len(board.rows) == 1 else 's'}"
        count = total if len(rows) == len(board.rows) else f"{len(rows)} of {total}"
        parts = [
            visible(board.problem) or count,
            *([f"{num_live} live"] if num_live else []),
            *([f"{len(self.marked)} marked"] if self.marked else []),
            *([memory.view] if memory.view != "runs" else []),
            *([f"by {memory.sort}"] if memory.view != "studies" else []),
            *([f"filter: {visible(memory.filter)}"] if memory.filter else []),
            metric_label(headline(board, memory)).title,
        ]
        text = Text(" · ".join(parts))
        text.append(f"  {visible(str(board.runs_dir))}", "dim")
        return text

    def _why_empty(self) -> str:
        if self.board.problem:
            return self.board.problem
        if self.app.memory.view == "studies" and not self.app.memory.filter:
            return f"no run here belongs to a study; begin one with\n\n    {START_STUDY}\n\nu shows the runs"
        if self.board.rows:
            wanted = visible(self.app.memory.filter)
            return f"no run has “{wanted}” in its name, state, recipe, study or cell; esc shows all"
        folder = visible(str(self.board.runs_dir))
        return f"{folder} holds no runs yet.\n\nN starts one; so does another terminal, with\n\n    {START}"

    @property
    def run_at_cursor(self) -> RunDirectory | None:
        """The run on which the cursor stands."""
        key = self.query_one(Rows).key
        return self.board.rows[key].run if key in self.board.rows else None

    def table(self) -> Table:
        """For export and copy."""
        return values(self.board, self.app.memory)

    def on_rows_chosen(self) -> None:
        from workbench.tui.run.screen import RunScreen
        from workbench.tui.study.screen import StudyScreen

        key = self.query_one(Rows).key or ""
        if key.startswith(KEY):
            self.app.push_screen(StudyScreen(key.removeprefix(KEY), self.board.runs_dir))
        elif (run := self.run_at_cursor) is not None:
            self.app.push_screen(RunScreen(run))

    def action_mark(self) -> None:
        if (run := self.run_at_cursor) is not None:
            if run.id in self.marked:
                self.marked.remove(run.id)
            else:
                self.marked.append(run.id)
            self.query_one(Rows).action_move(1)
            self.draw()

    def action_compare(self) -> None:
        from workbench.tui.compare.screen import CompareScreen

        if len(self.marked) < 2:
            self.app.say("mark two runs or more with space, then compare them with c")
            return
        self.app.push_screen(CompareScreen([self.board.rows[run].run for run in self.marked]))

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.app.memory.filter = event.value
        self.query_one(Rows).move_to(0)
        self.draw()

    def on_input_submitted(self) -> None:
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.remove_class("-filtering")
        self.query_one(Rows).focus()
        self.app.keep()

    def action_clear(self) -> None:
        if self.has_class("-filtering") or self.app.memory.filter:
            self.query_one("#filter", Input).value = ""
            self._leave_filter()
        else:
            self.marked = []
        self.draw()

    def action_sort(self) -> None:
        memory = self.app.memory
        place = SORTS.index(memory.sort) if memory.sort in SORTS else 0
        memory.sort = SORTS[(place + 1) % len(SORTS)]
        self._remember()

    def action_metric(self) -> None:
        self.app.memory.metric = next_metric(self.board, self.app.memory)
        self._remember()

    def action_view(self) -> None:
        memory = self.app.memory
        memory.view = VIEWS[(VIEWS.index(memory.view) + 1) % len(VIEWS)]
        self._remember()

    def action_new(self) -> None:
        from workbench.tui.new_run.screen import StartScreen

        if self.app.memory.view == "studies":
            self._new_sweep()
        else:
            self.app.push_screen(StartScreen(self.board.runs_dir))

    def _new_sweep(self) -> None:
        from workbench.tui.dialogs import Form
        from workbench.tui.new_run.draft import SWEEP_FIELDS, sweep_command, sweep_said
        from workbench.tui.commands import start_sweep

        runs_dir = self.board.runs_dir

        def answered(filled: dict[str, str] | None) -> None:
            if filled is None:
                return
            try:
                name = Path(filled["study"]).stem
                self.app.has_started("the sweep begins", start_sweep(sweep_command(filled, runs_dir), runs_dir, name))
            except ValueError as error:
                self.app.say(str(error), is_wrong=True)

        self.app.push_screen(Form("start a sweep", SWEEP_FIELDS, lambda filled: sweep_said(filled, runs_dir)), answered)

    def _remember(self) -> None:
        self.app.keep()
        self.draw()
