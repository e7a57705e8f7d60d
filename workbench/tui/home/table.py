"""The table of runs: its columns at a width, the order of its rows, and their cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from workbench.errors import visible
from workbench.formatting import duration, shortened
from workbench.tui.home.board import Board, Row
from workbench.tui.preferences import Preferences
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Line
from workbench.tui.text import NOTHING, SORTS_FIRST, bar, number, sparkline, state_color, state_text
from workbench.views.metrics import METRIC_LABELS, metric_label

SORTS = ("newest", "name", "state", "progress", "metric", "loss", "time left")
HEADLINE = "image_to_text_r1"
SPARK_WIDTH, NARROW_SPARK = 8, 5
BAR_WIDTH = 8
LEAST_NAME, MOST_NAME = 14, 48
WIDE = 100
LAST = float("inf")

Tones = Callable[[str], str]  # the hex color of a theme's color name


@dataclass(frozen=True)
class Column:
    """A column: its heading, and its width in cells (0: the rest)."""

    key: str
    heading: str
    width: int


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
        has_open=any(row.status is not None and row.status.state != "finished" for row in rows),
        has_studies=any(row.origin for row in rows),
        of_studies=of_studies,
    )


def columns(width: int, metric: str, need: Needs) -> list[Column]:
    """The columns that fit into ``width`` cells; optional ones are added while the names keep enough space."""
    label, is_wide = metric_label(metric), width >= WIDE
    heading = label.title if is_wide else label.label.replace("image", "I").replace("text", "T")
    has_bar = is_wide and need.has_open
    found = [
        Column("mark", "", 1),
        Column("name", "study" if need.of_studies else "run", 0),
        Column("state", "state", 14 if need.has_live else 11),
        Column("progress", "done", BAR_WIDTH + 5 if has_bar else 5),
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
    return [replace(column, width=length) if column.key == "name" else column for column in found]


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
    rows.sort(key=lambda row: (not row.is_live, _key(row, preferences.sort, metric), row.age))
    # The sort is stable: within a study, cells and seeds in the order of the study.
    if preferences.view == "by study":
        rows.sort(key=lambda row: (row.origin.study, row.origin.trial, row.origin.seed) if row.origin else ("", 0, 0))
    return rows


def _searched(row: Row) -> str:
    """The text that the filter searches: name, state, recipe, study and cell."""
    status, origin = row.status, row.origin
    parts = [row.run.id, *([status.state, status.recipe] if status else [])]
    return " ".join([*parts, *([origin.study, origin.cell] if origin else [])]).lower()


def _key(row: Row, sort: str, metric: str) -> object:
    """The sort key of a row; unknown values come last."""
    status, trace = row.status, row.metrics.get(metric)
    state = status.state if status else "~"
    worse_first = metric_label(metric).higher_is_better is False
    keys: dict[str, object] = {
        "name": row.run.id.lower(),
        "state": (state not in SORTS_FIRST, state),
        "progress": -(status.step / status.num_steps) if status and status.num_steps else LAST,
        "metric": _finite(trace.last if trace else None, 1 if worse_first else -1),
        "loss": _finite(row.loss, 1),
        "time left": _finite(row.left_s, 1),
    }
    return keys.get(sort, 0)


def _finite(value: float | None, sign: int) -> float:
    return LAST if value is None or value != value else sign * value  # noqa: PLR0124 - NaN is last, whatever the sign


def line(row: Row, shown: Sequence[Column], metric: str, *, is_marked: bool, tones: Tones) -> Line:
    """A row's cells. Text from files is shown literally, with unprintable characters escaped."""
    words = cell_texts(row, metric)
    words["mark"] = ("●" if is_marked else " ", "accent")
    found = []
    for column in shown:
        text, color = words[column.key]
        if column.key == "name":
            text = shortened(visible(text), column.width)
        elif column.key == "spark":
            text = text[-column.width :]
        elif column.key == "progress" and column.width > BAR_WIDTH:
            text = f"{_bar(row)} {text}"
        found.append(Cell(visible(text), column.width, tones(color) if color else ""))
    return tuple(found)


def _bar(row: Row) -> str:
    """The progress bar of an unfinished run; blank for a finished one."""
    status = row.status
    if status is None or not status.num_steps or status.state == "finished":
        return " " * BAR_WIDTH
    return bar(status.step / status.num_steps, BAR_WIDTH)


def cell_texts(row: Row, metric: str) -> dict[str, tuple[str, str]]:
    """The text and the theme's color name of each column."""
    status, label, trace = row.status, metric_label(metric), row.metrics.get(metric)
    share = status.step / status.num_steps if status and status.num_steps else None
    state = state_text(status, is_quiet=row.is_quiet)
    study = f"{row.origin.study} {row.origin.cell} s{row.origin.seed}" if row.origin else ""
    return {
        "name": (row.run.id, ""),
        "state": (row.problem or state, "error" if row.problem else row_tone(row)),
        "progress": (f"{NOTHING:>4}" if share is None else f"{share:4.0%}", ""),
        "left": (NOTHING if row.left_s is None or row.is_paused else duration(row.left_s), ""),
        "metric": (label.number(trace.last if trace else None), ""),
        "spark": (sparkline(trace.series.value.tolist(), SPARK_WIDTH) if trace and len(trace) > 1 else "", "primary"),
        "loss": (number(row.loss), ""),
        "recipe": (status.recipe if status else "", "text-muted"),
        "study": (study, "text-muted"),
    }


def row_tone(row: Row) -> str:
    """The theme's color name for a run's state."""
    return state_color(row.status, is_quiet=row.is_quiet)


def values(board: Board, preferences: Preferences) -> tuple[list[str], list[list[str]]]:
    """The data to export or copy: headings, and a row per run with all metrics."""
    names = [name for name in METRIC_LABELS if name in board.metric_names]
    headings = ["run", "state", "step", "num_steps", "loss", "left_s", "recipe", "study", "cell", "seed", *names]
    rows = []
    for row in ordered(board, preferences):
        status, origin = row.status, row.origin
        metrics = [row.metrics[name].last if name in row.metrics else None for name in names]
        found = [
            row.run.id,
            status.state if status else "unreadable",
            status.step if status else None,
            status.num_steps if status else None,
            row.loss,
            row.left_s,
            status.recipe if status else None,
            *([origin.study, origin.cell, origin.seed] if origin else [None] * 3),
            *metrics,
        ]
        rows.append(["" if value is None else str(value) for value in found])
    return headings, rows
