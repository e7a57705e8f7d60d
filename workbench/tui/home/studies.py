"""The studies of a folder at a glance, made of its board: how far each is, and its best cell so far."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.config.study import load_study
from workbench.tui.home.board import Board, Row
from workbench.tui.home.table import BAR_WIDTH, Column, Tones
from workbench.tui.rows import Cell, Line
from workbench.tui.words import NOTHING, bar, plain
from workbench.views.metrics import metric_label
from workbench.views.units import duration

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
    def num_runs(self) -> int:
        """As its file plans, where one of this name is known and plans as many as there are."""
        return max(len(self.rows), _planned(self.name))

    @property
    def num_finished(self) -> int:
        return sum(row.status is not None and row.status.state == "finished" for row in self.rows)

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
        if column.key == "progress" and column.width > BAR_WIDTH:
            share = study.num_finished / study.num_runs
            text = f"{bar(share, BAR_WIDTH) if share < 1 else ' ' * BAR_WIDTH} {text}"
        found.append(Cell(plain(text), column.width, tones(colour) if colour else ""))
    return tuple(found)


def _said(study: StudyRow, metric: str) -> dict[str, tuple[str, str]]:
    best = study.best(metric)
    cells = {row.origin.cell for row in study.rows if row.origin}
    is_done = study.num_finished == study.num_runs
    state, colour = ("running", "success") if study.is_live else ("finished", "") if is_done else ("open", "warning")
    return {
        "mark": ("▸", "accent"),
        "name": (study.name, "accent"),
        "state": (state, colour),
        "progress": (f"{study.num_finished / study.num_runs:4.0%}", ""),
        "left": (NOTHING if study.left_s is None else duration(study.left_s), ""),
        "metric": (metric_label(metric).number(best[1] if best else None), ""),
        "recipe": (best[0] if best else "", "text-muted"),
        "study": (f"{len(cells)} cells, {study.num_finished}/{study.num_runs} runs", "text-muted"),
    }


@functools.cache
def _planned(name: str) -> int:
    """Runs that the study of this name plans; 0 for one that is not known."""
    for own in (name, name.removesuffix("-quick")):
        try:
            study = load_study(own)
        except ValueError:
            continue
        return study.num_runs if own == name else study.quick().num_runs
    return 0
