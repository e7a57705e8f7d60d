"""The table of runs and studies: its columns at a width, the order of its rows, and their cells."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import visible
from workbench.formatting import duration, shortened
from workbench.tui.home.board import Board, Row
from workbench.tui.preferences import Preferences
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Column, Line
from workbench.tui.text import NOTHING, SORTS_FIRST, Table, bar, number, sparkline, state_color, state_text
from workbench.views.metrics import METRIC_LABELS, metric_label

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.config.study import Study

SORTS = ("newest", "name", "state", "progress", "metric", "loss", "time left")
HEADLINE = "image_to_text_r1"
SPARK_WIDTH, NARROW_SPARK = 8, 5
BAR_WIDTH = 8
LEAST_NAME, MOST_NAME = 14, 48
WIDE = 100
LAST = float("inf")
KEY = "study/"  # prefix of the key of a study's line; run names contain no slash


@dataclass(frozen=True)
class Needs:
    """What decides the columns: the longest name, and whether any row has a value for a column."""

    name: int
    has_live: bool = False
    has_left: bool = False
    has_open: bool = False
    has_studies: bool = False
    of_studies: bool = False


def needs(board: Board, *, of_studies: bool = False) -> Needs:
    """The needs of a board's runs, or of its studies."""
    rows = list(board.rows.values())
    names = [row.origin.study for row in rows if row.origin] if of_studies else [row.run.id for row in rows]
    return Needs(
        name=max(map(len, names), default=0),
        has_live=any(row.is_live for row in rows),
        has_left=any(row.left_s is not None for row in rows),
        has_open=any(row.state not in ("", "finished") for row in rows),
        has_studies=any(row.origin for row in rows),
        of_studies=of_studies,
    )


def columns(width: int, metric: str, need: Needs) -> list[Column]:
    """The columns that fit into ``width`` cells; optional ones are added while the names keep enough space."""
    label, is_wide = metric_label(metric), width >= WIDE
    heading = label.title if is_wide else label.label.replace("image", "I").replace("text", "T")
    found = [
        Column("mark", "", 1),
        Column("name", "study" if need.of_studies else "run", 0),
        Column("state", "state", 14 if need.has_live else 11),
        Column("progress", "done", BAR_WIDTH + 5 if is_wide and need.has_open else 5),
        *([Column("left", "left", 8)] if need.has_left and width >= 66 else []),
        Column("metric", heading[:18], min(18, max(7, len(heading)))),
    ]
    more = [
        Column("spark", "", SPARK_WIDTH if is_wide else NARROW_SPARK),
        *([Column("loss", "loss", 9)] if not need.of_studies else []),
        Column("recipe", "best cell" if need.of_studies else "recipe", 18),
        *([Column("study", "progress" if need.of_studies else "study, cell", 28)] if need.has_studies else []),
    ]
    room = width - SCROLLBAR - 1 - sum(column.width + GAP for column in found)
    whole = max(LEAST_NAME, min(MOST_NAME, need.name, max(2 * LEAST_NAME, width // 3)))
    for column in more:
        if room - column.width - GAP >= whole:
            found.append(column)
            room -= column.width + GAP
    length = max(LEAST_NAME, min(MOST_NAME, need.name, room))
    return [column._replace(width=length) if column.key == "name" else column for column in found]


def headline(board: Board, preferences: Preferences) -> str:
    """The table's metric: the preferred one if any run has it, else a default."""
    names = board.metric_names
    for wished in (preferences.metric, HEADLINE):
        if wished in names:
            return wished
    return names[0] if names else HEADLINE


def next_metric(board: Board, preferences: Preferences) -> str:
    """The metric after the one shown, in the order of ``METRIC_LABELS``."""
    names = [name for name in METRIC_LABELS if name in board.metric_names] or board.metric_names
    shown = headline(board, preferences)
    return names[(names.index(shown) + 1) % len(names)] if shown in names else shown


def ordered(board: Board, preferences: Preferences) -> list[Row]:
    """The runs that match the filter: live ones first, then by the chosen order; grouped in the view "by study"."""
    metric = headline(board, preferences)
    words = preferences.filter.lower().split()
    rows = [row for row in board.rows.values() if all(word in _searched(row) for word in words)]
    rows.sort(key=lambda row: (not row.is_live, _sort_key(row, preferences.sort, metric), row.age))
    # The sort is stable: within a study, cells and seeds in the order of the study.
    if preferences.view == "by study":
        rows.sort(key=lambda row: (row.origin.study, row.origin.trial, row.origin.seed) if row.origin else ("", 0, 0))
    return rows


def _searched(row: Row) -> str:
    """The text that the filter searches: name, state, recipe, study and cell."""
    status, origin = row.status, row.origin
    parts = [row.run.id, *([status.state, status.recipe] if status else [])]
    return " ".join([*parts, *([origin.study, origin.cell] if origin else [])]).lower()


def _sort_key(row: Row, sort: str, metric: str) -> object:
    trace = row.metrics.get(metric)
    state = row.state or "~"
    worse_first = metric_label(metric).higher_is_better is False
    keys: dict[str, object] = {
        "name": row.run.id.lower(),
        "state": (state not in SORTS_FIRST, state),
        "progress": LAST if row.share is None else -row.share,
        "metric": _finite(trace.last if trace else None, 1 if worse_first else -1),
        "loss": _finite(row.loss, 1),
        "time left": _finite(row.left_s, 1),
    }
    return keys.get(sort, 0)


def _finite(value: float | None, sign: int) -> float:
    return LAST if value is None or value != value else sign * value  # noqa: PLR0124 - NaN is last, whatever the sign


def line(cells: Mapping[str, Cell], shown: Sequence[Column], share: float | None) -> Line:
    """The cells of the columns shown, cut to their widths; ``share`` of a progress bar, None for no bar."""
    found = []
    for column in shown:
        cell = cells.get(column.key, Cell(""))
        if column.key == "name":
            cell = cell._replace(text=shortened(visible(cell.text), column.width))
        elif column.key == "spark":
            cell = cell._replace(text=cell.text[-column.width :])
        elif column.key == "progress" and column.width > BAR_WIDTH:
            progress = " " * BAR_WIDTH if share is None else bar(share, BAR_WIDTH)
            cell = cell._replace(text=f"{progress} {cell.text}")
        found.append(cell)
    return tuple(found)


def run_line(row: Row, shown: Sequence[Column], metric: str, *, is_marked: bool) -> Line:
    """A run's line."""
    mark = Cell("●" if is_marked else " ", "accent")
    return line(run_cells(row, metric) | {"mark": mark}, shown, None if row.state == "finished" else row.share)


def run_cells(row: Row, metric: str) -> dict[str, Cell]:
    """A run's cells by the keys of their columns."""
    status, label, trace = row.status, metric_label(metric), row.metrics.get(metric)
    spark = sparkline(trace.series.value.tolist(), SPARK_WIDTH) if trace and len(trace) > 1 else ""
    study = f"{row.origin.study} {row.origin.cell} s{row.origin.seed}" if row.origin else ""
    state = Cell(state_text(status, is_quiet=row.is_quiet), state_color(status, is_quiet=row.is_quiet))
    return {
        "name": Cell(row.run.id),
        "state": Cell(row.problem, "error") if row.problem else state,
        "progress": Cell(f"{NOTHING:>4}" if row.share is None else f"{row.share:4.0%}"),
        "left": Cell(NOTHING if row.left_s is None or row.state == "paused" else duration(row.left_s)),
        "metric": Cell(label.number(trace.last if trace else None)),
        "spark": Cell(spark, "primary"),
        "loss": Cell(number(row.loss)),
        "recipe": Cell(status.recipe if status else "", "text-muted"),
        "study": Cell(study, "text-muted"),
    }


def runs_table(board: Board, preferences: Preferences) -> Table:
    """The data to export or copy: a row per run with all metrics."""
    names = [name for name in METRIC_LABELS if name in board.metric_names]
    headings = ["run", "state", "step", "num_steps", "loss", "left_s", "recipe", "study", "cell", "seed", *names]
    rows = []
    for row in ordered(board, preferences):
        status, origin = row.status, row.origin
        found = [
            row.run.id,
            *((status.state, status.step, status.num_steps) if status else ("unreadable", None, None)),
            *(row.loss, row.left_s, status.recipe if status else None),
            *((origin.study, origin.cell, origin.seed) if origin else (None, None, None)),
            *(row.metrics[name].last if name in row.metrics else None for name in names),
        ]
        rows.append(["" if value is None else str(value) for value in found])
    return headings, rows


@dataclass(frozen=True)
class StudyRow:
    """One study with the newest attempt of each cell and seed. ``plan`` is None if only its runs are known."""

    name: str
    rows: tuple[Row, ...]
    plan: "Study | None"

    @property
    def num_planned(self) -> int:
        return max(len(self.rows), self.plan.num_runs if self.plan else 0)

    @property
    def num_finished(self) -> int:
        return sum(row.state == "finished" for row in self.rows)

    @property
    def num_tried(self) -> int:
        """The number of cells with a finished run and no live one."""
        cells = self._by_cell.values()
        return sum(any(row.state == "finished" for row in of) and not any(row.is_live for row in of) for of in cells)

    @property
    def _by_cell(self) -> dict[str, list[Row]]:
        by_cell: dict[str, list[Row]] = {}
        for row in self.rows:
            by_cell.setdefault(row.origin.cell if row.origin else "", []).append(row)
        return by_cell

    @property
    def share(self) -> float:
        """The fraction that is done: of the planned runs, or of the trials of a search.

        Trials are counted because racing may drop one before its last seed.
        """
        if self.plan and self.plan.search:
            return min(1.0, self.num_tried / self.plan.trials)
        return self.num_finished / self.num_planned

    @property
    def progress_text(self) -> str:
        """The progress in numbers of cells or trials, and runs."""
        if self.plan and self.plan.search:
            return f"{self.num_tried} of {self.plan.trials} trials, {self.num_finished} runs"
        return f"{len(self._by_cell)} cells, {self.num_finished}/{self.num_planned} runs"

    @property
    def is_live(self) -> bool:
        return any(row.is_live for row in self.rows)

    def best(self, metric: str) -> tuple[str, float] | None:
        """The cell with the best mean over finished seeds, and that mean; None without a finished run."""
        means = {}
        for cell, rows in self._by_cell.items():
            traces = [row.metrics.get(metric) for row in rows if row.state == "finished"]
            values = [trace.last for trace in traces if trace and trace.last is not None]
            if values:
                means[cell] = sum(values) / len(values)
        sign = -1 if metric_label(metric).higher_is_better is False else 1
        return max(means.items(), key=lambda item: sign * item[1], default=None)


def studies_of(board: Board, wanted: str = "") -> list[StudyRow]:
    """The studies of the board's runs with all words of ``wanted`` in their names; live ones first, then the newest."""
    newest: dict[tuple[str, str, int], Row] = {}
    for row in sorted(board.rows.values(), key=lambda row: row.origin.attempt if row.origin else 0):
        if row.origin:
            newest[row.origin.study, row.origin.cell, row.origin.seed] = row
    groups: dict[str, list[Row]] = {}
    for (study, _, _), row in newest.items():
        if all(word in study.lower() for word in wanted.lower().split()):
            groups.setdefault(study, []).append(row)
    found = [StudyRow(name, tuple(rows), _plan(name, board.runs_dir)) for name, rows in groups.items()]
    return sorted(found, key=lambda one: (not one.is_live, min(row.age for row in one.rows)))


@functools.cache
def _plan(name: str, runs_dir: "Path") -> "Study | None":
    from workbench.runs.studies import find_study

    try:
        found = find_study(name, runs_dir)
    except ValueError:
        return None
    return found.study if found.has_file else None


def study_line(study: StudyRow, shown: Sequence[Column], metric: str) -> Line:
    """A study's line in the columns of the runs table."""
    best, left_s = study.best(metric), [row.left_s for row in study.rows if row.left_s is not None]
    is_done = study.share == 1
    state = Cell("running", "success") if study.is_live else Cell("finished") if is_done else Cell("open", "warning")
    cells = {
        "mark": Cell("▸", "accent"),
        "name": Cell(study.name, "accent"),
        "state": state,
        "progress": Cell(f"{study.share:4.0%}"),
        "left": Cell(duration(max(left_s)) if left_s else NOTHING),
        "metric": Cell(metric_label(metric).number(best[1] if best else None)),
        "recipe": Cell(best[0] if best else "", "text-muted"),
        "study": Cell(study.progress_text, "text-muted"),
    }
    return line(cells, shown, study.share if study.share < 1 else None)
