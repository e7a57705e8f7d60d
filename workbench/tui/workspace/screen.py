"""The workspace: runs at the left, and a chart for each metric with all shown runs, their settings and differences."""

import re
import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, TabPane

from workbench.errors import visible
from workbench.formatting import shortened
from workbench.runs.directory import RunDirectory
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Plot, letter_of, plots_table
from workbench.tui.contrast import readable
from workbench.tui.dialogs import KeyFooter
from workbench.tui.home import fields
from workbench.tui.home.board import Board, Row
from workbench.tui.host import OpenRun, is_in_view
from workbench.tui.label import Label
from workbench.tui.preferences import Axis
from workbench.tui.rows import Cell, Column, Line, Rows
from workbench.tui.tabs import LENS_KEYS, PanedScreen, Panes, Reading, pane_keys
from workbench.tui.text import Table, state_color, state_text
from workbench.tui.workspace.group import RunGroup, color_of, decides, places_of, title_of
from workbench.tui.workspace.texts import differences_text, settings_text
from workbench.views.comparison import setting_text

PANES = ("charts", "settings", "differences")
REFRESH_S = 1.0
CATCH_UP_S = 0.1
MOST_PAUSE_S = 5.0
SHARE = 0.03  # most of the time spent drawing what has changed by itself; keys are answered at once
FIRST_SHOWN = 10  # runs, of a folder with more
LEAST_LIST, MOST_LIST = 18, 38  # columns of the list of runs
WITH_LIST = 60  # columns of the terminal from which there is one


class RunList(Rows, inherit_bindings=False):
    """The runs; here ``g`` groups them, and does not go to the first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        one for one in Rows.BINDINGS if isinstance(one, Binding) and one.key != "home,g"
    ]


class WorkspaceScreen(PanedScreen):
    """Follows the shown runs of a folder; one letter and one color for each run, in every chart."""

    DEFAULT_CSS = """
    WorkspaceScreen #head { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    WorkspaceScreen #both { height: 1fr; }
    WorkspaceScreen #list { height: 1fr; border-right: vkey $panel; }
    WorkspaceScreen VerticalScroll { height: 1fr; padding: 0 1; }
    WorkspaceScreen #filter { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
    WorkspaceScreen.-filtering #filter { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *pane_keys(PANES)[1:],
        Binding("escape,backspace", "leave", "table of runs", key_display="esc"),
        Binding("space", "show_or_hide", "show/hide"),
        Binding("a", "show_all", "show all runs, or the first ones", show=False),
        Binding("p", "pin", "pin"),
        Binding("g", "group", "group"),
        Binding("slash", "filter", "metrics", key_display="/"),
        *LENS_KEYS,
    ]
    PANES = PANES
    AXES: ClassVar[tuple[Axis, ...]] = ("step", "pairs", "time", "clock")
    export_name = "workspace"

    def __init__(self, board: Board, runs: Sequence[RunDirectory] = (), *, only: bool = False) -> None:
        """``runs`` are shown at first, by default the newest; with ``only``, the list has no others."""
        super().__init__()
        self.board = board
        self._only = [run.id for run in runs] if only else None
        self.group = RunGroup([])
        self.shown: list[str] = [run.id for run in runs]
        self.pinned: list[str] = []
        self._by = ""  # what groups are made by
        self._pattern = re.compile("")
        self._problem = ""
        self._drawn: object = None
        self._next_draw_s = 0.0

    def compose(self) -> ComposeResult:
        yield Label(id="head")
        with Horizontal(id="both"):
            yield RunList(id="list")
            with Vertical(), Panes(id="panes"):
                with TabPane("1 charts", id="charts"), VerticalScroll(can_focus=False):
                    yield Charts(self.lens, id="grid")
                with TabPane("2 settings", id="settings"), Reading():
                    yield Label(id="settings-text")
                with TabPane("3 differences", id="differences"), Reading():
                    yield Label(id="differences-text")
        yield Input(placeholder="a regular expression, such as R@1|loss", id="filter", compact=True)
        yield KeyFooter()

    def on_mount(self) -> None:
        self.apply_preferences()
        if self._only is None:
            self.app.preferences.opens = "workspace"
            self.app.save_preferences()
        self.query_one(Rows).focus()
        self.tick()
        self.set_interval(REFRESH_S, self.tick)

    def on_resize(self) -> None:
        self.draw(force=True)

    @property
    def rows(self) -> list[Row]:
        """The runs of the list: pinned ones, then the others from the newest on, or as they were given."""
        rows = self.board.rows
        every = sorted(rows.values(), key=lambda row: row.age)
        if self._only is not None:
            every = [rows[run] for run in self._only if run in rows]
        return sorted(every, key=lambda row: row.run.id not in self.pinned)

    def tick(self) -> None:
        """Read new events of the shown runs; if there are many, continue after a pause in which keys are handled."""
        if not is_in_view(self):
            return
        has_more = self.board.poll()
        if not self.shown and self.board.rows:
            self.shown = [row.run.id for row in self.rows[:FIRST_SHOWN]]
        self._follow()
        if self.group.poll() or has_more:
            self.set_timer(CATCH_UP_S, self.tick)
        self.draw()

    def _follow(self) -> None:
        # A run's place counts from the oldest on, so that new runs change no letter and no color.
        oldest_first = sorted(self.board.rows.values(), key=lambda row: -row.age)
        self.group.places |= {row.run.id: place for place, row in enumerate(oldest_first)}
        shown = [row.run for row in self.rows if row.run.id in (*self.shown, *self.pinned)]
        if [follower.run for follower in self.group.followers] != shown:
            self.group.show(shown)

    def draw(self, *, force: bool = False) -> None:
        """Update the list, and the active pane if its data changed and enough time has passed, unless forced."""
        if not self.children:
            return  # the screen is being closed
        self.query_one("#head", Label).update(self._head(), layout=False)
        self._draw_list()
        basis = (self.group.version, self.pane, self._by, self._pattern, self.lens.axis, self.size.width)
        if not force and (basis == self._drawn or time.monotonic() < self._next_draw_s):
            return
        self._drawn = basis
        start_s, self.lens.drawing_s = time.thread_time(), 0.0  # not counting what other processes take
        self._draw_pane()
        self.update_lens_keys()
        self.call_after_refresh(self._set_pause, time.thread_time() - start_s)

    def _set_pause(self, took_s: float) -> None:
        """Wait before the next drawing in proportion to what this one took, with the charts' own drawing."""
        pause_s = min(MOST_PAUSE_S, (took_s + self.lens.drawing_s) / SHARE)
        self._next_draw_s = time.monotonic() + max(0.5 * REFRESH_S, pause_s)

    def _draw_list(self) -> None:
        rows = self.rows
        width = min(MOST_LIST, max(LEAST_LIST, 3 * self.size.width // 10)) if self.size.width >= WITH_LIST else 0
        table = self.query_one(Rows)
        table.display = bool(width)
        table.styles.width = width
        state = 9 if width > 28 and any(row.is_live for row in rows) else 0  # else all the room is for the names
        columns = [Column("sign", "", 3), Column("name", "", max(4, width - 9 - (state + 2 if state else 0)))]
        columns += [Column("state", "", state)] if state else []
        background = self.background_colors[1].hex
        places, groups = dict(self.group.places), self._groups()
        if groups is not None:  # the letter and color of its group, as in the charts
            of = places_of(groups)
            places |= {run: of[label] for run, label in groups.items()}
            places = {run: place for run, place in places.items() if run in groups}  # the others are in no chart
        lines = {row.run.id: self._line(row, places.get(row.run.id), columns, background) for row in rows}
        table.show(columns, lines)

    def _line(self, row: Row, place: int | None, columns: Sequence[Column], background: str) -> Line:
        run, is_shown = row.run.id, row.run.id in self.shown or row.run.id in self.pinned
        sign = ("◆" if run in self.pinned else "●" if is_shown else "○") + (
            f" {letter_of(place)}" if place is not None else ""
        )
        color = readable(color_of(place), background) if is_shown and place is not None else "text-muted"
        cells = [Cell(sign, color), Cell(shortened(visible(run), columns[1].width), "" if is_shown else "text-muted")]
        state = Cell(state_text(row.status, is_quiet=row.is_quiet), state_color(row.status, is_quiet=row.is_quiet))
        return (*cells, state) if len(columns) > 2 else tuple(cells)

    def _head(self) -> Text:
        if self._problem:
            return Text(visible(self._problem), "bold")
        reading = sum(follower.share_read < 1 for follower in self.group.followers)
        parts = [
            f"{len(self.group.followers)} of {len(self.rows)} runs",
            f"mean by {self._by}, band over its runs" if self._by else "",
            f"metrics: {self._pattern.pattern}" if self._pattern.pattern else "",
            f"x: {AXIS_NAMES[self.lens.axis]}",
            f"reading {reading} logs" if reading else "",
        ]
        text = Text(" · ".join(filter(None, parts)), no_wrap=True)
        return text.append(f"  {visible(str(self.board.runs_dir))}", "dim")

    def _draw_pane(self) -> None:
        if self.pane == "charts":
            self.query_one(Charts).show(self._plots())
            return
        try:
            comparison = self.group.comparison()
        except ValueError as error:
            self.query_one(f"#{self.pane}-text", Label).update(Text(visible(str(error)), "italic"))
            return
        width, letters = max(20, self.query_one(Panes).size.width - 4), self.group.letters
        if self.pane == "settings":
            text = settings_text(comparison, letters, width)
        else:
            text = differences_text(comparison, letters, self.group.pairings(), width)
        self.query_one(f"#{self.pane}-text", Label).update(text)

    def _plots(self) -> list[Plot]:
        groups = self._groups()
        names = [name for name in self.group.names if self._pattern.search(title_of(name))]
        plots = [self.group.plot(name, self.lens.axis, groups) for name in names]
        return plots or [Plot("no run is shown: space shows the one at the cursor" if not self.shown else "no metric")]

    def _groups(self) -> dict[str, str] | None:
        """The group of every shown run; None if they are not grouped."""
        if not self._by:
            return None
        followers = [one for one in self.group.followers if one.run.id in self.board.rows]
        return {one.run.id: _group_text(self.board.rows[one.run.id], self._by) for one in followers}

    def table(self) -> Table:
        """The data to export or copy."""
        if self.pane == "charts":
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
        self.draw(force=True)

    def on_rows_chosen(self) -> None:
        if (key := self.query_one(Rows).key) in self.board.rows:
            self.post_message(OpenRun(self.board.rows[key].run))

    def focus_pane(self) -> None:
        """The list of runs keeps the focus: its keys apply in every pane; Tab goes on to the charts."""

    def _change(self) -> None:
        self._follow()
        self.group.poll()
        self.draw(force=True)

    def action_show_or_hide(self) -> None:
        if (key := self.query_one(Rows).key) is None:
            return
        if key in self.shown:
            self.shown.remove(key)
        else:
            self.shown.append(key)
        self.query_one(Rows).action_move(1)
        self._change()

    def action_show_all(self) -> None:
        every = [row.run.id for row in self.rows]
        self.shown = every if set(self.shown) != set(every) else every[:FIRST_SHOWN]
        self._change()

    def action_pin(self) -> None:
        if (key := self.query_one(Rows).key) is None:
            return
        if key in self.pinned:
            self.pinned.remove(key)
        else:
            self.pinned.append(key)
        self._change()

    def action_leave(self) -> None:
        """Clear the filter; without one, go back to the table of runs, which is then the first screen next time too."""
        if self.has_class("-filtering") or self._pattern.pattern:
            self.query_one("#filter", Input).value = ""
            self.on_input_submitted()
            return
        if self._only is None:
            self.app.preferences.opens = "runs"
            self.app.save_preferences()
        self.app.pop_screen()

    def action_group(self) -> None:
        choices = ["", *self._groupings()]
        self._by = choices[(choices.index(self._by) + 1) % len(choices)] if self._by in choices else ""
        self.draw(force=True)

    def _groupings(self) -> list[str]:
        """What runs can be grouped by: the recipe, the cell, and the settings in which they differ."""
        rows = self.rows
        settings = [name for name in self.board.setting_names if decides(name)]
        wanted = ["recipe", "cell", *settings]
        return [name for name in wanted if len({str(fields.value(row, name)) for row in rows}) > 1]

    def action_axis(self) -> None:
        super().action_axis()
        self.draw(force=True)  # means are made along the axis

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        try:
            self._pattern, self._problem = re.compile(event.value, re.IGNORECASE), ""
        except re.error as error:
            self._problem = f"not a regular expression: {error}"
        self.draw(force=True)

    def on_input_submitted(self) -> None:
        self.remove_class("-filtering")
        self.query_one(Rows).focus()


AXIS_NAMES = {"step": "step", "pairs": "training pairs", "time": "seconds of training", "clock": "date"}


def _group_text(row: Row, by: str) -> str:
    """The group of a run: the value of a field or setting."""
    found = fields.value(row, by)
    return f"without {by}" if found is None else setting_text(found)
