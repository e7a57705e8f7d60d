"""The table of runs: its columns at a width, and their cells."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import visible
from workbench.formatting import duration, shortened
from workbench.tui.home import fields
from workbench.tui.home.board import Board, Row
from workbench.tui.preferences import Preferences
from workbench.tui.rows import DOWN, GAP, SCROLLBAR, UP, Cell, Column, Line
from workbench.tui.text import NOTHING, Table, bar, decimal, shortest, sparkline, state_color, state_text
from workbench.views.metrics import METRIC_LABELS, metric_label

HEADLINE = "image_to_text_r1"
SPARK_WIDTH, NARROW_SPARK = 8, 5
BAR_WIDTH = 8
LEAST_NAME, MOST_NAME = 14, 48
WIDE, NARROW = 100, 56
LEAST_PICKED, MOST_PICKED = 5, 18  # cells of a column that was picked
SORTED_BY = {"time left": "left"}  # an order -> the key of its column, where the two differ


@dataclass(frozen=True)
class Needs:
    """What decides the columns: the longest name, whether any row has a value for a column, and the picked columns."""

    name: int
    has_live: bool = False
    has_left: bool = False
    has_open: bool = False
    has_studies: bool = False
    of_studies: bool = False
    picked: tuple[Column, ...] = ()


def needs(board: Board, *, of_studies: bool = False, picked: Sequence[str] = ()) -> Needs:
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
        picked=() if of_studies else _picked(rows, picked),
    )


def _picked(rows: Sequence[Row], names: Sequence[str]) -> tuple[Column, ...]:
    """The picked columns, as wide as their contents and the end of their name that tells it from the others."""
    short = shortest(names)
    found = []
    for name in names:
        heading = short[name] if "." in name else brief(metric_label(name).title)
        values = [fields.value(row, name) for row in rows]
        is_number = all(isinstance(value, int | float | None) for value in values)
        width = max([len(heading) + 1, LEAST_PICKED, *(len(fields.shown(row, name)) for row in rows)])
        found.append(Column(name, heading, min(MOST_PICKED, width), is_number))
    return tuple(found)


def brief(heading: str) -> str:
    """A metric's heading in fewer cells."""
    return heading.replace("image", "I").replace("text", "T")


def columns(width: int, metric: str, need: Needs) -> list[Column]:
    """The columns that fit into ``width`` cells; optional ones are added while the names keep enough space.

    In a narrow terminal the progress goes first: a state and a metric say more.
    """
    label, is_wide = metric_label(metric), width >= WIDE
    heading = label.title if is_wide else brief(label.label)
    progress = Column("progress", "done", BAR_WIDTH + 5 if is_wide and need.has_open else 5, is_number=True)
    found = [
        Column("mark", "", 1),
        Column("name", "study" if need.of_studies else "run", 0),
        Column("state", "state", 8 if width < NARROW else 14 if need.has_live else 11),
        *([progress] if width >= NARROW else []),
        *([Column("left", "left", 8, is_number=True)] if need.has_left and width >= 66 else []),
        Column("metric", heading[:18], min(19, max(8, len(heading) + 1)), is_number=True),
    ]
    more = [
        *need.picked,
        Column("spark", "", SPARK_WIDTH if is_wide else NARROW_SPARK),
        *([Column("loss", "loss", 9, is_number=True)] if not need.of_studies else []),
        Column("recipe", "best cell" if need.of_studies else "recipe", 18),
        *([Column("study", "progress" if need.of_studies else "study, cell", 28)] if need.has_studies else []),
    ]
    room = width - SCROLLBAR - 1 - sum(column.width + GAP for column in found)
    whole = max(LEAST_NAME, min(MOST_NAME, need.name, max(2 * LEAST_NAME, width // 3)))
    for column in more:
        # What was picked is wanted more than the ends of long names.
        if room - column.width - GAP >= (LEAST_NAME if column in need.picked else whole):
            found.append(column)
            room -= column.width + GAP
    length = max(LEAST_NAME, min(MOST_NAME, need.name, room))
    return [column._replace(width=length) if column.key == "name" else column for column in found]


def with_sign(shown: Sequence[Column], sort: str, *, is_reversed: bool) -> list[Column]:
    """The columns with a sign in the one that the rows are sorted by."""
    key = SORTED_BY.get(sort, sort)
    return [one._replace(sign=UP if is_reversed else DOWN) if one.key == key else one for one in shown]


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


Scale = tuple[float, float]


def spark_scale(board: Board, metric: str) -> Scale:
    """The least and the greatest value of a metric in any run: all sparklines of a column have one scale."""
    traces = [row.metrics[metric] for row in board.rows.values() if metric in row.metrics]
    values = [value for trace in traces for value in trace.series.value.tolist() if math.isfinite(value)]
    return (min(values), max(values)) if values else (0.0, 0.0)


def run_line(row: Row, shown: Sequence[Column], metric: str, scale: Scale, *, is_marked: bool) -> Line:
    """A run's line."""
    mark = Cell("●" if is_marked else " ", "accent")
    picked = {column.key: Cell(fields.shown(row, column.key)) for column in shown if column.key not in OWN}
    cells = run_cells(row, metric, scale) | picked | {"mark": mark}
    return line(cells, shown, None if row.state == "finished" else row.share)


OWN = ("mark", "name", "state", "progress", "left", "metric", "spark", "loss", "recipe", "study")


def run_cells(row: Row, metric: str, scale: Scale) -> dict[str, Cell]:
    """A run's cells by the keys of their columns."""
    status, label, trace = row.status, metric_label(metric), row.metrics.get(metric)
    spark = sparkline(trace.series.value.tolist(), SPARK_WIDTH, scale) if trace and len(trace) > 1 else ""
    study = f"{row.origin.study} {row.origin.cell} s{row.origin.seed}" if row.origin else ""
    state = Cell(state_text(status, is_quiet=row.is_quiet), state_color(status, is_quiet=row.is_quiet))
    return {
        "name": Cell(row.run.id),
        "state": Cell(row.problem, "error") if row.problem else state,
        "progress": Cell(f"{NOTHING:>4}" if row.share is None else f"{row.share:4.0%}"),
        "left": Cell(NOTHING if row.left_s is None or row.state == "paused" else duration(row.left_s)),
        "metric": Cell(label.number(trace.last if trace else None)),
        "spark": Cell(spark, "primary"),
        "loss": Cell(decimal(row.loss)),
        "recipe": Cell(status.recipe if status else "", "text-muted"),
        "study": Cell(study, "text-muted"),
    }


def runs_table(board: Board, rows: Sequence[Row], picked: Sequence[str] = ()) -> Table:
    """The data to export or copy: a row per run with all metrics, then the picked columns."""
    names = [name for name in METRIC_LABELS if name in board.metric_names]
    headings = ["run", "state", "step", "num_steps", "loss", "left_s", "recipe", "study", "cell", "seed", *names]
    more = [name for name in picked if name not in headings]
    lines = []
    for row in rows:
        status, origin = row.status, row.origin
        found = [
            row.run.id,
            *((status.state, status.step, status.num_steps) if status else ("unreadable", None, None)),
            *(row.loss, row.left_s, status.recipe if status else None),
            *((origin.study, origin.cell, origin.seed) if origin else (None, None, None)),
            *(row.metrics[name].last if name in row.metrics else None for name in names),
            *(fields.value(row, name) for name in more),
        ]
        lines.append(["" if value is None else str(value) for value in found])
    return [*headings, *more], lines
