"""One study: its table filling cell by cell, its runs, what it has found, its history, and what can be asked of it."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static, TabPane

from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.sweeps.storage import default_file
from workbench.tui import steer
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Lens
from workbench.tui.dialogs import Ask, Form
from workbench.tui.export import Table, plots_table
from workbench.tui.paned import Paned, Panes, Reading, pane_keys
from workbench.tui.rows import Rows
from workbench.tui.study.lines import (
    LEGEND,
    heading_text,
    run_headings,
    run_lines,
    table_headings,
    table_lines,
)
from workbench.tui.study.studied import Studied, read_study
from workbench.tui.study.words import found_text, head_text, history_plots
from workbench.tui.words import hex_of
from workbench.views.metrics import MetricLabel

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

PANES = ("table", "runs", "found", "history")
TICK_S = 1.0
LEAST_PAUSE_S = 3.0
SHARE = 0.03  # of the time that reading may take: a study of hundreds of runs is read less often


class StudyScreen(Paned):
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
        Binding("R", "resume", "go on, retry"),
        Binding("A", "add_seeds", "more seeds"),
        Binding("X", "cancel", "stop the run at the cursor", show=False),
    ]
    PANES = PANES
    app: "Workbench"

    def __init__(self, name: str, runs_dir: Path) -> None:
        super().__init__()
        self.study_name, self.runs_dir = name, runs_dir
        self.studied: Studied | None = None
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
        yield Footer(show_command_palette=False)

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
        if self.app.screen is self and time.monotonic() >= self._read_from_s:
            self._read_from_s = float("inf")  # until this reading has ended
            self.run_worker(self._read(), exclusive=True, group="study", exit_on_error=False)

    async def _read(self) -> None:
        began_s = time.monotonic()
        try:
            self.studied = await asyncio.to_thread(read_study, self.study_name, self.runs_dir)
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

    def _draw_table(self, found: Studied) -> None:
        if (metric := self.metric) is None:
            return
        headings = table_headings(found, metric, self.size.width)
        self.query_one("#cells-headings", Static).update(heading_text(headings), layout=False)
        self.query_one("#cells", Rows).show(table_lines(found, metric, headings, self._tones))

    def _draw_runs(self, found: Studied) -> None:
        if (metric := self.metric) is None:
            return
        headings = run_headings(metric, self.size.width)
        self.query_one("#each-headings", Static).update(heading_text(headings), layout=False)
        self.query_one("#each", Rows).show(run_lines(found, metric, headings, self._tones))

    def _draw_found(self, found: Studied) -> None:
        self.query_one("#said", Static).update(found_text(found, self.size.width - 4))

    def _draw_history(self, found: Studied) -> None:
        self.query_one("#curves", Charts).show(history_plots(found.report, found.report.main))

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
            self.draw()

    def on_rows_chosen(self) -> None:
        """Opens a run, or the runs of a cell side by side."""
        from workbench.tui.compare.screen import CompareScreen
        from workbench.tui.run.screen import RunScreen

        runs = [RunDirectory(self.runs_dir.absolute() / run) for run in self._runs_at_cursor()]
        if len(runs) > 1:
            self.app.push_screen(CompareScreen(runs))
        elif runs:
            self.app.push_screen(RunScreen(runs[0]))
        else:
            self.app.say("no run of this cell has begun yet")

    def _runs_at_cursor(self) -> list[str]:
        if self.pane == "runs":
            key = self.query_one("#each", Rows).key
            return [key] if key else []
        key = self.query_one("#cells", Rows).key
        cells = self.studied.report.table.cells if self.studied else ()
        return [one.run for cell in cells if cell.name == key for one in cell.replicates if one.run]

    def action_cancel(self) -> None:
        live = [RunDirectory(self.runs_dir.absolute() / run) for run in self._runs_at_cursor()]
        live = [run for run in live if run.exists and run_status(run).state in TAKES_COMMANDS]
        if self.pane not in ("table", "runs") or not live:
            self.app.say("no run at the cursor is under way", is_wrong=True)
            return

        def answered(yes: bool | None) -> None:
            for run in live if yes else ():
                try:
                    steer.STOP.send(run)
                except ValueError as error:
                    self.app.say(str(error), is_wrong=True)

        names = ", ".join(run.id for run in live)
        what = (
            "It finishes its step, saves a checkpoint and ends; the sweep records it as stopped and goes on with the "
            "others. R takes it up again from there."
        )
        self.app.push_screen(Ask(f"stop {names}?", what), answered)

    def _can_go_on(self) -> Studied | None:
        """The study, if a command of it can be given here; says why not."""
        found, why = self.studied, ""
        if found is None:
            why = "it has not been read yet"
        elif not found.source:
            why = "no study file of this name is known here: give the sweep's own command, with --resume"
        elif not default_file(self.runs_dir, self.study_name).exists():
            why = "its storage is not in this folder: give the sweep's own command, with --resume and --storage"
        elif found.num_live:
            why = f"{found.num_live} of its runs are under way: wait until they have ended"
        if why:
            self.app.say(f"{self.study_name}: {why}", is_wrong=True)
            return None
        return found

    def action_resume(self) -> None:
        if found := self._can_go_on():
            command = [*found.command, "--resume"]
            what = "What is missing is trained, and what failed or was stopped is tried again"
            self._ask_to_start(f"{self.study_name}: go on?", what, command)

    def action_add_seeds(self) -> None:
        found = self._can_go_on()
        if found is None:
            return
        if found.report.study.search:
            self.app.say("the trials of a search keep the seeds that they began with", is_wrong=True)
            return
        now = max(len(cell.replicates) for cell in found.report.table.cells)

        def check(filled: dict[str, str]) -> str:
            num_seeds = filled["seeds"]
            if not num_seeds.isdecimal() or int(num_seeds) <= now:
                raise ValueError(f"it has {now} seeds: ask for more")
            more = (int(num_seeds) - now) * len(found.report.table.cells)
            return f"{more} runs more are trained, in a process of its own that outlives this screen."

        def answered(filled: dict[str, str] | None) -> None:
            if filled is not None:
                self._start(with_seeds(found.command, filled["seeds"]))

        fields = {"seeds": ("replicates of every cell", str(now + 2))}
        self.app.push_screen(Form(f"{self.study_name}: more seeds", fields, check), answered)

    def _ask_to_start(self, title: str, what: str, command: list[str]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._start(command)

        said = f"{what}, in a process of its own that outlives this screen:\n\nworkbench {' '.join(command)}"
        self.app.push_screen(Ask(title, said), answered)

    def _start(self, command: list[str]) -> None:
        try:
            log = steer.start_sweep([*command, "--runs", str(self.runs_dir)], self.runs_dir, self.study_name)
            self.app.say(f"{self.study_name} goes on; what it prints goes to {log}")
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)


def with_seeds(command: list[str], seeds: str) -> list[str]:
    """The sweep's arguments with another number of seeds."""
    if "--seeds" in command:
        place = command.index("--seeds")
        return [*command[: place + 1], seeds, *command[place + 2 :]]
    return [*command, "--seeds", seeds]
