"""The keys of the first screen that change what is shown: the order, the metric, the columns and the named views."""

from pathlib import Path
from typing import ClassVar, get_args

from textual.binding import Binding
from textual.screen import Screen

from workbench.tui.home import fields
from workbench.tui.home.board import Board, Row
from workbench.tui.home.pickers import ColumnPicker, ViewPicker
from workbench.tui.home.table import SORTED_BY, headline, next_metric
from workbench.tui.host import Host, OpenNewRun
from workbench.tui.preferences import View
from workbench.tui.rows import Headings
from workbench.views.metrics import METRIC_LABELS
from workbench.views.query import Query

VIEWS: tuple[View, ...] = get_args(View)


class HomeActions(Screen[None]):
    """What is shown of a folder's runs, and the keys that change it; a subclass draws."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("s", "sort", "sort"),
        Binding("S", "reverse", "reverse the order", show=False),
        Binding("m", "metric", "metric"),
        Binding("o", "columns", "columns"),
        Binding("V", "views", "named views of this folder", show=False),
        Binding("u", "view", "studies"),
        Binding("N", "new", "start a run; in the list of studies, a sweep", show=False),
    ]
    app: Host

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.board = Board(runs_dir)
        self.query_problem = ""
        self._query = Query()
        self._query_of: tuple[str, int] = ("", 0)  # what the query was parsed from: its text, and the number of names

    def draw(self) -> None:
        """Update the screen."""
        raise NotImplementedError

    def set_query(self, text: str) -> None:
        """Select the runs that match ``text``. While it cannot be read, the query before it stays."""
        self.app.preferences.filter = text
        self._query_of = (text, self._num_names(text))
        try:
            self._query, self.query_problem = fields.query_of(self.board, text), ""
        except ValueError as error:
            self.query_problem = str(error)

    def _num_names(self, text: str) -> int:
        return len(fields.names(self.board)) if text else 0

    def rows(self) -> list[Row]:
        """The runs that match the query, in order."""
        preferences = self.app.preferences
        # A name may be unknown only because the run that has it was not read yet.
        if self._query_of != (preferences.filter, self._num_names(preferences.filter)):
            self.set_query(preferences.filter)
        return fields.ordered(self.board, preferences, self._query, headline(self.board, preferences))

    def on_headings_clicked(self, event: Headings.Clicked) -> None:
        """Sort by the column; by the one that it is sorted by already, in reverse."""
        preferences = self.app.preferences
        keys = {column: sort for sort, column in SORTED_BY.items()}
        wanted = keys.get(event.key, event.key)
        if wanted not in (*fields.SORTS, *fields.names(self.board)):
            return  # a column of no order, such as the sparklines
        preferences.is_reversed = wanted == preferences.sort and not preferences.is_reversed
        preferences.sort = wanted
        self._save_and_draw()

    def action_sort(self) -> None:
        preferences = self.app.preferences
        place = fields.SORTS.index(preferences.sort) if preferences.sort in fields.SORTS else -1
        preferences.sort = fields.SORTS[(place + 1) % len(fields.SORTS)]
        self._save_and_draw()

    def action_reverse(self) -> None:
        self.app.preferences.is_reversed = not self.app.preferences.is_reversed
        self._save_and_draw()

    def action_metric(self) -> None:
        self.app.preferences.metric = next_metric(self.board, self.app.preferences)
        self._save_and_draw()

    def action_columns(self) -> None:
        board = self.board
        metrics = [name for name in METRIC_LABELS if name in board.metric_names]
        groups = {"metric": metrics, "setting": board.setting_names, "field": ["seed", "step", "study", "cell"]}

        def picked(names: list[str] | None) -> None:
            if names is not None:
                self.app.preferences.columns = names
                self._save_and_draw()

        self.app.push_screen(ColumnPicker(groups, self.app.preferences.columns), picked)

    def action_views(self) -> None:
        preferences, folder = self.app.preferences, str(self.board.runs_dir.absolute())

        def chosen(answer: tuple[str, str] | None) -> None:
            if answer is None:
                return
            action, name = answer
            change = {"show": preferences.apply_view, "save": preferences.keep_view, "forget": preferences.forget_view}
            change[action](folder, name)
            self.show_filter()
            self._save_and_draw()
            done = {"save": f"saved the view {name}: V shows it again", "forget": f"deleted the view {name}"}
            if action in done:
                self.app.show_notice(done[action])

        saved = preferences.saved.get(folder, {})
        about = {name: " · ".join(filter(None, (view.filter, f"by {view.sort}"))) for name, view in saved.items()}
        self.app.push_screen(ViewPicker(about), chosen)

    def show_filter(self) -> None:
        """Write the query of the preferences into its line."""
        raise NotImplementedError

    def action_view(self) -> None:
        preferences = self.app.preferences
        preferences.view = VIEWS[(VIEWS.index(preferences.view) + 1) % len(VIEWS)]
        self._save_and_draw()

    def action_new(self) -> None:
        if self.app.preferences.view == "studies":
            self._new_sweep()
        else:
            self.post_message(OpenNewRun(self.board.runs_dir))

    def _new_sweep(self) -> None:
        # Imported late: the config modules behind it are slow to import, and the first screen does not need them.
        from workbench.tui.new_run import SWEEP_FIELDS, sweep_command, sweep_summary

        runs_dir = self.board.runs_dir

        def start(filled: dict[str, str]) -> None:
            arguments = sweep_command(filled, runs_dir)
            self.app.start_sweep("sweep started", arguments, runs_dir, Path(filled["study"]).stem)

        self.app.fill_form("start a sweep", SWEEP_FIELDS, lambda filled: sweep_summary(filled, runs_dir), start)

    def _save_and_draw(self) -> None:
        self.app.save_preferences()
        self.draw()
