"""The studies of a folder: their progress, their best cell, and their lines in the table."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.formatting import duration
from workbench.tui.home.board import Board, Row
from workbench.tui.home.table import line
from workbench.tui.rows import Cell, Column, Line
from workbench.tui.text import NOTHING
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.config.study import Study

KEY = "study/"  # prefix of the key of a study's line; run names contain no slash


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
