"""The studies of a folder at a glance, made of its board: how far each is, and its best cell so far."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.formatting import duration, shortened
from workbench.terminal import visible
from workbench.tui.home.board import Board, Row
from workbench.tui.home.table import BAR_WIDTH, Column, Tones
from workbench.tui.rows import Cell, Line
from workbench.tui.text import NOTHING, bar
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.config.study import Study

KEY = "study/"  # begins the key of a study's line: no run's name has a slash


@dataclass(frozen=True)
class StudyRow:
    """One study and its runs, of which the last attempt at every cell and seed counts."""

    name: str
    rows: tuple[Row, ...]

    @property
    def key(self) -> str:
        return KEY + self.name

    @property
    def share(self) -> float:
        """How much of it is done: runs that its file plans, or trials of a search, some of which end before their last
        seed."""
        study = _planned(self.name, self.rows[0].run.path.parent)
        if study and study.search:
            return min(1.0, self.num_tried / study.trials)
        return self.num_finished / max(len(self.rows), study.num_runs if study else 0)

    @property
    def num_finished(self) -> int:
        return sum(row.status is not None and row.status.state == "finished" for row in self.rows)

    @property
    def num_tried(self) -> int:
        """Cells of which something has finished, and nothing is under way."""
        by_cell: dict[str, list[Row]] = {}
        for row in self.rows:
            by_cell.setdefault(row.origin.cell if row.origin else "", []).append(row)
        return sum(
            any(row.status is not None and row.status.state == "finished" for row in rows)
            and not any(row.is_live for row in rows)
            for rows in by_cell.values()
        )

    @property
    def how_much(self) -> str:
        """The same in numbers."""
        study = _planned(self.name, self.rows[0].run.path.parent)
        if study and study.search:
            return f"{self.num_tried} of {study.trials} trials, {self.num_finished} runs"
        planned = max(len(self.rows), study.num_runs if study else 0)
        return f"{len({row.origin.cell for row in self.rows if row.origin})} cells, {self.num_finished}/{planned} runs"

    @property
    def is_live(self) -> bool:
        return any(row.is_live for row in self.rows)

    @property
    def left_s(self) -> float | None:
        """Until those of its runs that are under way have ended."""
        return max((row.left_s for row in self.rows if row.left_s is not None), default=None)

    def best(self, metric: str) -> tuple[str, float] | None:
        """The cell whose mean over finished seeds is best, and that mean."""
        by_cell: dict[str, list[float]] = {}
        for row in self.rows:
            trace = row.metrics.get(metric)
            if row.origin and row.status and row.status.state == "finished" and trace and trace.last is not None:
                by_cell.setdefault(row.origin.cell, []).append(trace.last)
        sign = -1 if metric_label(metric).higher_is_better is False else 1
        means = {cell: sum(values) / len(values) for cell, values in by_cell.items()}
        return max(means.items(), key=lambda item: sign * item[1], default=None)


def studies_of(board: Board, wanted: str = "") -> list[StudyRow]:
    """The studies that the folder's runs belong to, live ones first; those with these words in their names."""
    newest: dict[tuple[str, str, int], Row] = {}
    for row in sorted(board.rows.values(), key=lambda row: row.origin.attempt if row.origin else 0):
        if row.origin:
            newest[row.origin.study, row.origin.cell, row.origin.seed] = row
    groups: dict[str, list[Row]] = {}
    for (study, _, _), row in newest.items():
        groups.setdefault(study, []).append(row)
    found = [StudyRow(name, tuple(rows)) for name, rows in groups.items()]
    found = [one for one in found if all(word in one.name.lower() for word in wanted.lower().split())]
    return sorted(found, key=lambda one: (not one.is_live, min(row.age for row in one.rows)))


def study_line(study: StudyRow, shown: Sequence[Column], metric: str, *, tones: Tones) -> Line:
    """A study in the columns of the runs."""
    words = _said(study, metric)
    found = []
    for column in shown:
        text, colour = words.get(column.key, ("", ""))
        if column.key == "name":
            text = shortened(text, column.width)
        elif column.key == "progress" and column.width > BAR_WIDTH:
            text = f"{bar(study.share, BAR_WIDTH) if study.share < 1 else ' ' * BAR_WIDTH} {text}"
        found.append(Cell(visible(text), column.width, tones(colour) if colour else ""))
    return tuple(found)


def _said(study: StudyRow, metric: str) -> dict[str, tuple[str, str]]:
    best = study.best(metric)
    state, colour = (
        ("running", "success") if study.is_live else ("finished", "") if study.share == 1 else ("open", "warning")
    )
    return {
        "mark": ("▸", "accent"),
        "name": (study.name, "accent"),
        "state": (state, colour),
        "progress": (f"{study.share:4.0%}", ""),
        "left": (NOTHING if study.left_s is None else duration(study.left_s), ""),
        "metric": (metric_label(metric).number(best[1] if best else None), ""),
        "recipe": (best[0] if best else "", "text-muted"),
        "study": (study.how_much, "text-muted"),
    }


@functools.cache
def _planned(name: str, runs_dir: "Path") -> "Study | None":
    """The study of this name; None for one that is told by its runs alone."""
    from workbench.runs.summary import find_study

    try:
        found = find_study(name, runs_dir)
    except ValueError:
        return None
    return found.study if found.has_file else None
