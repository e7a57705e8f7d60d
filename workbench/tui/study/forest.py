"""A forest plot of a study's cells: intervals over seeds, every seed, the paper's value, and the verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from workbench.errors import visible
from workbench.tui.charts.chart import Canvas
from workbench.tui.charts.raster import Range, column_of, tick_text, ticks, with_room
from workbench.tui.contrast import readable
from workbench.tui.rows import clipped
from workbench.tui.text import hex_of
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell, StudyTable

OPEN, FILLED, SEED, PAPER, BASELINE = "○", "●", "•", "◆", "┊"
LINE, LEFT, RIGHT, BEYOND_LEFT, BEYOND_RIGHT = "─", "├", "┤", "◂", "▸"
LEGEND = f"{FILLED} decided {OPEN} open {SEED} seed {PAPER} paper {BASELINE} baseline"
LEAST_AREA, MOST_NAME = 16, 24  # columns
AROUND = 3  # rows of the title and the axis
SETTLED = {"better": "success", "worse": "error", "equivalent": "primary"}


@dataclass(frozen=True)
class ForestRow:
    """One cell in the displayed unit; ``low`` and ``high`` are None for a single seed, ``mean`` without a finished one.

    ``is_open``: nothing is decided about its difference to the baseline. ``note``: the verdict, with the seeds needed.
    """

    name: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()
    paper: float | None = None
    is_open: bool = True
    color: str = ""
    note: str = ""


def forest_rows(table: StudyTable, metric: MetricLabel, cells: Sequence[StudyCell]) -> list[ForestRow]:
    """A row for each cell; the ends of intervals are clipped to what the metric can be."""
    rows = []
    for cell in cells:
        entry = table.entry(cell, metric)
        is_baseline = cell.name == table.baseline
        row = ForestRow(
            cell.name,
            paper=entry.paper,
            is_open=entry.verdict not in SETTLED and not is_baseline,
            color=SETTLED.get(entry.verdict, ""),
            note="baseline" if is_baseline else entry.verdict_text if entry.mean else cell.state,
        )
        if (mean := entry.mean) is not None:
            least, most = metric.bounds
            ends = [metric.factor * min(max(end, least), most) for end in (mean.low, mean.high)]
            has_interval = math.isfinite(mean.low + mean.high)
            row = replace(
                row,
                mean=metric.factor * mean.mean,
                low=ends[0] if has_interval else None,
                high=ends[1] if has_interval else None,
                seeds=tuple(metric.factor * value for value in mean.per_seed),
            )
        rows.append(row)
    return rows


def forest_range(rows: Sequence[ForestRow]) -> Range | None:
    """The range of the axis: all means, seeds and published values, and intervals as far as they are of that size.

    An interval over two seeds may be many times as wide as all the rest, which would then be one point.
    """
    found = (value for row in rows for value in (row.mean, row.paper, *row.seeds))
    points = [value for value in found if value is not None and math.isfinite(value)]
    if not points:
        return None
    low, high = min(points), max(points)
    span = (high - low) or abs(high) or 1.0
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    low, high = min([low, *ends]), max([high, *ends])
    return with_room(max(low, min(points) - span), min(high, max(points) + span), is_log=False)


def forest_line(row: ForestRow, x_range: Range, width: int, baseline: float | None) -> str:
    """A row's marks in ``width`` columns: the interval below the seeds, these below the paper's value and the mean."""
    cells = [" "] * width

    def at(value: float) -> int:
        return min(width - 1, max(0, column_of(value, x_range, width)))

    if baseline is not None:
        cells[at(baseline)] = BASELINE
    if row.low is not None and row.high is not None:
        start, end = at(row.low), at(row.high)
        cells[start : end + 1] = LINE * (end + 1 - start)
        cells[start] = BEYOND_LEFT if row.low < x_range[0] else LEFT
        cells[end] = BEYOND_RIGHT if row.high > x_range[1] else RIGHT
    for value in row.seeds:
        cells[at(value)] = SEED
    if row.paper is not None:
        cells[at(row.paper)] = PAPER
    if row.mean is not None:
        cells[at(row.mean)] = OPEN if row.is_open else FILLED
    return "".join(cells)


class Forest(Canvas):
    """The rows that fit, around the one at the cursor of the table above."""

    DEFAULT_CSS = """
    Forest { height: auto; padding: 0 1; background: $background; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id)
        self._shown: tuple[object, ...] = ()
        self._rows: list[ForestRow] = []
        self._metric: MetricLabel | None = None
        self._baseline: float | None = None
        self._cursor = ""

    def show(self, rows: list[ForestRow], metric: MetricLabel, baseline: str, cursor: str) -> None:
        """Show these rows, with a line at the mean of ``baseline``; drawn again only if something changed."""
        if (shown := (rows, metric, baseline, cursor)) != self._shown:
            self._shown, self._rows, self._metric, self._cursor = shown, rows, metric, cursor
            self._baseline = next((row.mean for row in rows if row.name == baseline), None)
            self.redraw()

    def strips(self, base: Style) -> list[Strip]:
        width, height = self.content_size
        x_range = forest_range(self._rows)
        if self._metric is None or x_range is None or height <= AROUND:
            return [Strip([Segment("no cell has a finished run yet".ljust(width), base)])] if height > 0 else []
        name = min(MOST_NAME, max(len(visible(row.name)) for row in self._rows)) + 1
        note = max(len(row.note) for row in self._rows) + 1
        area = width - name - note - 1
        if area < LEAST_AREA:  # the table above has the verdicts too
            note, area = 0, max(2, width - name - 1)
        title = f"{self._metric.title}, 95 %  {LEGEND}"
        _, _, background, foreground = self.colors
        faint = base + Style(color=background.blend(foreground, 0.6).hex)
        lines = [[Segment(clipped(title, width), base + Style(bold=True))]]
        for row in self._window(height - AROUND):
            style = base + Style(bold=row.name == self._cursor)
            marks = forest_line(row, x_range, area, None if row.mean == self._baseline else self._baseline)
            own = style + self._color(row.color)
            before, line, after = marks.partition(BASELINE)
            lines.append(
                [
                    Segment(clipped(visible(row.name), name), style),
                    *(Segment(before, own), Segment(line, faint), Segment(after, own)),
                    Segment(clipped(f" {row.note}", note) if note else "", own),
                ]
            )
        lines += [[Segment(" " * name + text, faint)] for text in axis(x_range, area)]
        return [Strip(line).adjust_cell_length(width, base) for line in lines]

    def _window(self, most: int) -> list[ForestRow]:
        at = next((place for place, row in enumerate(self._rows) if row.name == self._cursor), 0)
        start = max(0, min(at - most // 2, len(self._rows) - most))
        return self._rows[start : start + most]

    def _color(self, name: str) -> Style:
        found = hex_of(self.app.theme_variables, name) if name else ""
        return Style(color=readable(found, self.colors[2].hex)) if found else Style()


def axis(x_range: Range, width: int) -> list[str]:
    """The axis and its labels, in ``width`` columns."""
    line, labels = ["─"] * width, [" "] * width
    free_from = 0
    for value in ticks(*x_range, max(2, width // 12)):
        column, text = column_of(value, x_range, width), tick_text(value)
        start = min(max(0, column - len(text) // 2), width - len(text))
        if 0 <= column < width and start >= free_from:
            line[column] = "┬"
            labels[start : start + len(text)] = text
            free_from = start + len(text) + 1
    return ["".join(line), "".join(labels)]
