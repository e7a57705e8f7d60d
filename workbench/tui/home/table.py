"""The rows of the board as a table: which runs, in which order, and what their cells say at a width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from workbench.formatting import duration, shortened
from workbench.terminal import visible
from workbench.tui.home.board import Board, Row
from workbench.tui.preferences import Preferences
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Line
from workbench.tui.text import NOTHING, SORTS_FIRST, bar, number, sparkline, state_text, tone
from workbench.views.metrics import METRIC_LABELS, metric_label

SORTS = ("newest", "name", "state", "progress", "metric", "loss", "time left")
HEADLINE = "image_to_text_r1"
SPARK_WIDTH, NARROW_SPARK = 8, 5
BAR_WIDTH = 8
LEAST_NAME, MOST_NAME = 14, 48
WIDE = 100
LAST = float("inf")

Tones = Callable[[str], str]  # a theme's colour by name


@dataclass(frozen=True)
class Column:
    """A column: its heading, and its width in cells (0: what the others leave)."""

    key: str
    heading: str
    width: int


@dataclass(frozen=True)
class Needs:
    """What the lines would show if there were room: their longest name, and whether any fills a column."""

    name: int
    has_live: bool = False
    has_left: bool = False
    has_open: bool = False
    has_studies: bool = False
    of_studies: bool = False


def needs(board: Board, *, of_studies: bool = False) -> Needs:
    """What the runs of a board need; studies are at least as long as the part of a run's name that is theirs."""
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
    """What fits into ``width`` cells, the most important first to stay; others come where names have enough."""
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
        *([Column("study", "how much of it" if need.of_studies else "study, cell", 28)] if need.has_studies else []),
    ]
    room = width - SCROLLBAR - 1 - sum(column.width + GAP for column in found)
    whole = max(LEAST_NAME, min(MOST_NAME, need.name, max(2 * LEAST_NAME, width // 3)))
    for column in more:
        if room - column.width - GAP >= whole:
            found.append(column)
            room -= column.width + GAP
    length = max(LEAST_NAME, min(MOST_NAME, need.name, room))
    return [replace(column, width=length) if column.key == "name" else column for column in found]


def headline(board: Board, memory: Preferences) -> str:
    """The metric that the table shows: the one that was chosen, if any run has it."""
    names = board.metric_names
    for wished in (memory.metric, HEADLINE):
        if wished in names:
            return wished
    return names[0] if names else HEADLINE


def next_metric(board: Board, memory: Preferences) -> str:
    """The metric after the one that is shown."""
    names = [name for name in METRIC_LABELS if name in board.metric_names] or board.metric_names
    shown = headline(board, memory)
    return names[(names.index(shown) + 1) % len(names)] if shown in names else shown


def ordered(board: Board, memory: Preferences) -> list[Row]:
    """The runs that pass the filter, live ones first, then as they are sorted; of a study together if asked for."""
    metric = headline(board, memory)
    words = memory.filter.lower().split()
    rows = [row for row in board.rows.values() if all(word in _searched(row) for word in words)]
    rows.sort(key=lambda row: (not row.is_live, _key(row, memory.sort, metric), row.age))
    if memory.view == "by study":
        rows.sort(key=lambda row: (row.origin.study, row.origin.trial, row.origin.seed) if row.origin else ("", 0, 0))
    return rows


def _searched(row: Row) -> str:
    """What the filter looks in: the name, the state, the recipe, the study and the cell."""
    status, origin = row.status, row.origin
    parts = [row.run.id, *([status.state, status.recipe] if status else [])]
    return " ".join([*parts, *([origin.study, origin.cell] if origin else [])]).lower()


def _key(row: Row, sort: str, metric: str) -> object:
    """What a row is sorted by; what is not known comes last."""
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
    """A row's cells; words from files are shown as they are, but for what is not printable."""
    words = said(row, metric)
    words["mark"] = ("●" if is_marked else " ", "accent")
    found = []
    for column in shown:
        text, colour = words[column.key]
        if column.key == "name":
            text = shortened(visible(text), column.width)
        elif column.key == "spark":
            text = text[-column.width :]
        elif column.key == "progress" and column.width > BAR_WIDTH:
            text = f"{_bar(row)} {text}"
        found.append(Cell(visible(text), column.width, tones(colour) if colour else ""))
    return tuple(found)


def _bar(row: Row) -> str:
    """Only of what is not finished: a column of full bars says nothing."""
    status = row.status
    if status is None or not status.num_steps or status.state == "finished":
        return " " * BAR_WIDTH
    return bar(status.step / status.num_steps, BAR_WIDTH)


def said(row: Row, metric: str) -> dict[str, tuple[str, str]]:
    """What each column says, and in which of the theme's colours."""
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
    """The theme's colour of a run's state."""
    return tone(row.status, is_quiet=row.is_quiet)


def values(board: Board, memory: Preferences) -> tuple[list[str], list[list[str]]]:
    """The table as text for a file or the clipboard: its headings, and a row a run with every metric."""
    names = [name for name in METRIC_LABELS if name in board.metric_names]
    headings = ["run", "state", "step", "num_steps", "loss", "left_s", "recipe", "study", "cell", "seed", *names]
    rows = []
    for row in ordered(board, memory):
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
