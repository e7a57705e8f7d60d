"""The studies of a folder, from its board: their progress, and the best cell so far."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import visible
from workbench.formatting import duration, shortened
from workbench.tui.home.board import Board, Row
from workbench.tui.home.table import BAR_WIDTH, Column, Tones
from workbench.tui.rows import Cell, Line
from workbench.tui.text import NOTHING, bar
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.config.study import Study

KEY = "study/"  # prefix of the key of a study's line; run names contain no slash


@dataclass(frozen=True)
class StudyRow:
    """One study with the newest attempt of each cell and seed."""

    name: str
    rows: tuple[Row, ...]

    @property
    def key(self) -> str:
        return KEY + self.name

    @property
    def share(self) -> float:
        """The fraction that is done: of the planned runs, or of the trials of a search.

        Trials are counted because racing may drop one before its last seed.
        """
        study = _planned(self.name, self.rows[0].run.path.parent)
        if study and study.search:
            return min(1.0, self.num_tried / study.trials)
        return self.num_finished / max(len(self.rows), study.num_runs if study else 0)

    @property
    def num_finished(self) -> int:
        return sum(row.status is not None and row.status.state == "finished" for row in self.rows)

    @property
    def num_tried(self) -> int:
        """The number of cells with a finished run and no live one."""
        by_cell: dict[str, list[Row]] = {}
        for row in self.rows:
            by_cell.setdefault(row.origin.cell if row.origin else "", []).append(row)
        return sum(
            any(row.status is not None and row.status.state == "finished" for row in rows)
            and not any(row.is_live for row in rows)
            for rows in by_cell.values()
        )

    @property
    def progress_text(self) -> str:
        """The progress in numbers of cells or trials, and runs."""
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
        """Seconds until the live runs end; None if unknown."""
        return max((row.left_s for row in self.rows if row.left_s is not None), default=None)

    def best(self, metric: str) -> tuple[str, float] | None:
        """The cell with the best mean over finished seeds, and that mean; None without a finished run."""
        by_cell: dict[str, list[float]] = {}
        for row in self.rows:
            trace = row.metrics.get(metric)
            if row.origin and row.status and row.status.state == "finished" and trace and trace.last is not None:
                by_cell.setdefault(row.origin.cell, []).append(trace.last)
        sign = -1 if metric_label(metric).higher_is_better is False else 1
        means = {cell: sum(values) / len(values) for cell, values in by_cell.items()}
        return max(means.items(), key=lambda item: sign * item[1], default=None)


def studies_of(board: Board, wanted: str = "") -> list[StudyRow]:
    """The studies of the board's runs with all words of ``wanted`` in their names; live ones first, then the newest."""
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
    """A study's line in the columns of the runs table."""
    words = _cell_texts(study, metric)
    found = []
    for column in shown:
        text, color = words.get(column.key, ("", ""))
        if column.key == "name":
            text = shortened(text, column.width)
        elif column.key == "progress" and column.width > BAR_WIDTH:
            text = f"{bar(study.share, BAR_WIDTH) if study.share < 1 else ' ' * BAR_WIDTH} {text}"
        found.append(Cell(visible(text), column.width, tones(color) if color else ""))
    return tuple(found)


def _cell_texts(study: StudyRow, metric: str) -> dict[str, tuple[str, str]]:
    best = study.best(metric)
    state, color = (
        ("running", "success") if study.is_live else ("finished", "") if study.share == 1 else ("open", "warning")
    )
    return {
        "mark": ("▸", "accent"),
        "name": (study.name, "accent"),
        "state": (state, color),
        "progress": (f"{study.share:4.0%}", ""),
        "left": (NOTHING if study.left_s is None else duration(study.left_s), ""),
        "metric": (metric_label(metric).number(best[1] if best else None), ""),
        "recipe": (best[0] if best else "", "text-muted"),
        "study": (study.progress_text, "text-muted"),
    }


@functools.cache
def _planned(name: str, runs_dir: "Path") -> "Study | None":
    """The study of this name; None if it has no file and only its runs are known."""
    from workbench.runs.studies import find_study

    try:
        found = find_study(name, runs_dir)
    except ValueError:
        return None
    return found.study if found.has_file else None
