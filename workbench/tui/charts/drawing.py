"""Draws a plot as rows of colored text: heading with values, curves in braille characters, and axes."""

import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import visible
from workbench.formatting import clock
from workbench.tui.charts.plot import INK, Curve, Lens, Plot, full_range, letter_of, smoothed
from workbench.tui.charts.raster import (
    Floats,
    Range,
    column_of,
    log_ticks,
    rasterize,
    row_of,
    tick_text,
    ticks,
    time_text,
    with_room,
)
from workbench.tui.text import number

FAINT, TITLE, CURSOR, MARK = "faint", "title", "cursor", "mark"
LABEL_WIDTH = 7
LEAST_WIDTH, LEAST_HEIGHT = 24, 5
MOST_HEADINGS = 3
BEHIND, SHADE = "~", "░"  # what precedes the color of what is drawn faintly behind the curves; a band's cells
POINT = "●"
FARTHEST = 2  # most rows between a curve's letter and its end

Piece = tuple[str, str]  # text, and its color: a hex number, INK or one of the words above
Row = list[Piece]


@dataclass(frozen=True)
class Drawing:
    """Rows of pieces, each of the requested width; ``left`` is the first column of the plot area."""

    rows: list[Row]
    left: int
    num_columns: int
    x_range: Range
    full: Range


@dataclass(frozen=True)
class Area:
    """Where the curves are drawn: its size in cells and its ranges; ``y_range`` in powers of ten if ``is_log``."""

    num_columns: int
    num_rows: int
    x_range: Range
    y_range: Range
    is_log: bool

    def column(self, x: float) -> int | None:
        """The column of cells at ``x``; None outside the area."""
        column = column_of(x, self.x_range, self.num_columns) if math.isfinite(x) else -1
        return column if 0 <= column < self.num_columns else None


def clock_text(seconds: float) -> str:
    """The label of a tick on an axis of dates."""
    return clock(seconds, "%d %H:%M")


TEXTS = {"time": time_text, "clock": clock_text}  # of the ticks of an axis, where they are not numbers


def draw(plot: Plot, lens: Lens, width: int, height: int) -> Drawing:
    """Draw the plot in ``width`` × ``height`` cells; if these are too few, only the heading."""
    raw, plot = plot, smoothed(plot, lens)
    full = full_range(plot, lens.axis)
    x_range = lens.window or full
    if not x_range[1] > x_range[0]:
        x_range = (x_range[0] - 0.5, x_range[1] + 0.5)
    heading = _heading(plot, lens, x_range, width)
    if height < LEAST_HEIGHT or width < LEAST_WIDTH or not plot.has_points:
        rows = heading if plot.has_points else [*heading, [(plot.empty, FAINT)]]
        return Drawing(_filled(rows, width, height), 0, width, (0.0, 1.0), full)
    heading = heading[: max(1, min(MOST_HEADINGS, height - 4))]
    num_rows, num_columns = height - len(heading) - 2, width - LABEL_WIDTH - 3
    y_range, is_log = _y_range(plot, lens, x_range)
    area = Area(num_columns, num_rows, x_range, y_range, is_log)
    rows = [*heading, *_body(plot, raw, lens, area), *_x_axis(plot.x_name or lens.axis, area)]
    return Drawing(_filled(rows, width, height), LABEL_WIDTH + 1, num_columns, x_range, full)


def _heading(plot: Plot, lens: Lens, x_range: Range, width: int) -> list[Row]:
    """The title, and each curve's letter, name and value: at the cursor, or the newest."""
    notes = [plot.unit] if plot.unit else []
    if plot.may_log and lens.is_log:
        num_below = sum(int((one.value <= 0).sum()) for one in plot.curves)
        notes.append("log axis" + (f", {num_below} values ≤ 0 not on it" if num_below else ""))
    if plot.may_smooth and lens.smoothing:
        notes.append(f"smoothed {lens.smoothing:g}")
    pieces: list[Row] = [[(visible(plot.title) + (f" ({', '.join(notes)})" if notes else ""), TITLE)]]
    for letter, one in zip(_letters(plot), plot.curves, strict=True):
        if len(one.value):
            x = one.along(lens.axis)
            value = one.value[-1 if lens.cursor is None else int(np.abs(x - lens.cursor).argmin())]
            if plot.is_brief and lens.cursor is None:
                continue
            name = letter if plot.is_brief else f"{letter} {visible(one.name)}"
            pieces.append([(f"{name} ", one.color), (number(float(value)), INK)])
    if lens.cursor is not None and plot.has_points:
        name = plot.x_name or lens.axis
        where = TEXTS[name](lens.cursor) if name in TEXTS else f"{name} {lens.cursor:,.0f}"
        pieces.append([(f"@ {where}", CURSOR)])
        distance = 0.01 * (x_range[1] - x_range[0])
        near = [mark for mark in plot.marks if abs(mark.along(lens.axis) - lens.cursor) <= distance]
        pieces += [[(f"┊ {visible(mark.text)}", MARK)] for mark in near[:1]]
    return _wrapped(pieces, width)


def _letters(plot: Plot) -> list[str]:
    return [one.letter or letter_of(place) for place, one in enumerate(plot.curves)]


def _wrapped(pieces: list[Row], width: int) -> list[Row]:
    rows: list[Row] = [[]]
    room = width
    for piece in pieces:
        needed = sum(len(text) for text, _ in piece) + 2
        if rows[-1] and needed - 2 > room:
            rows.append([])
            room = width
        rows[-1] += [*piece, ("  ", INK)]
        room -= needed
    return rows


def _y_range(plot: Plot, lens: Lens, x_range: Range) -> tuple[Range, bool]:
    """The range of the visible values, in powers of ten if a log axis is wanted and a value is above 0."""
    found = []
    for one in plot.curves:
        x = one.along(lens.axis)
        near = (x >= x_range[0]) & (x <= x_range[1])
        finite = np.isfinite(one.value)
        found.append(one.value[near])
        if one.band is not None:
            found += [ends[near] for ends in one.band]
        # If no point is visible, a line between two outside points may be: take its values at the edges.
        if len(x) > 1 and finite.any() and not near.any():
            found.append(np.interp(x_range, x[finite], one.value[finite]))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    is_log = plot.may_log and lens.is_log and bool((values > 0).any())
    if is_log:
        values = values[values > 0]
    if not len(values):
        return (0.0, 1.0), False
    low, high = with_room(float(values.min()), float(values.max()), is_log=is_log)
    return ((math.log10(low), math.log10(high)) if is_log else (low, high)), is_log


def _body(plot: Plot, raw: Plot, lens: Lens, area: Area) -> list[Row]:
    """The rows between the heading and the x axis: curves, and behind them what they were smoothed from, and bands."""
    lines = [_line(one, lens, area) for one in plot.curves]
    cells: list[Row] = [[(" ", INK)] * area.num_columns for _ in range(area.num_rows)]
    for one in plot.curves:
        _draw_band(cells, one, lens, area)
    if raw is not plot:
        before = [_line(one, lens, area) for one in raw.curves]
        _draw_lines(cells, before, [BEHIND + one.color for one in raw.curves], area)
    _draw_lines(cells, lines, [one.color for one in plot.curves], area)
    _draw_points(cells, plot, lines, area)
    _draw_upright(cells, plot, lens, area)
    for one in plot.curves:  # a cross at the top wherever a value is not finite
        for x in one.along(lens.axis)[~np.isfinite(one.value)].tolist():
            if (column := area.column(x)) is not None:
                cells[0][column] = ("×", one.color)
    labels, ends = _y_labels(area), _ends(plot, lines, area)
    rows = []
    for place, row in enumerate(cells):
        label: Row = [(labels.get(place, "").rjust(LABEL_WIDTH), FAINT), ("┤" if place in labels else "│", FAINT)]
        rows.append([*label, *_joined(row), (" ", INK), ends.get(place, (" ", INK))])
    return rows


def _line(one: Curve, lens: Lens, area: Area) -> tuple[Floats, Floats]:
    return one.along(lens.axis), _on_axis(one.value, area)


def _on_axis(values: Floats, area: Area) -> Floats:
    """The values as the y axis counts: in powers of ten on a log axis, NaN where they have none."""
    return np.log10(np.where(values > 0, values, np.nan)) if area.is_log else values


def _draw_lines(cells: list[Row], lines: list[tuple[Floats, Floats]], colors: list[str], area: Area) -> None:
    """Draw lines over what is there."""
    raster = rasterize(lines, area.x_range, area.y_range, area.num_columns, area.num_rows)
    for row, codes, owners in zip(cells, raster.codes_HW.tolist(), raster.owner_HW.tolist(), strict=True):
        for column, owner in enumerate(owners):
            if owner >= 0:
                row[column] = (chr(codes[column]), colors[owner])


def _draw_points(cells: list[Row], plot: Plot, lines: list[tuple[Floats, Floats]], area: Area) -> None:
    """Draw a curve of a single point, which as a dot would be overlooked, as a disk."""
    for one, (x, value) in zip(plot.curves, lines, strict=True):
        there = np.isfinite(value)
        if there.sum() == 1 and (column := area.column(float(x[there][0]))) is not None:
            row = row_of(float(value[there][0]), area.y_range, area.num_rows)
            if 0 <= row < area.num_rows:
                cells[row][column] = (POINT, one.color)


def _draw_band(cells: list[Row], one: Curve, lens: Lens, area: Area) -> None:
    """Shade the cells between a curve's least and greatest values."""
    x = one.along(lens.axis)
    if one.band is None or len(x) < 2:
        return
    at_W = np.linspace(*area.x_range, area.num_columns)
    low_W, high_W = (np.interp(at_W, x, _on_axis(ends, area), left=np.nan, right=np.nan) for ends in one.band)
    for column in np.flatnonzero(np.isfinite(low_W + high_W)).tolist():
        top, bottom = (row_of(float(ends[column]), area.y_range, area.num_rows) for ends in (high_W, low_W))
        for row in range(max(0, top), min(area.num_rows, bottom + 1)):
            cells[row][column] = (SHADE, BEHIND + one.color)


def _draw_upright(cells: list[Row], plot: Plot, lens: Lens, area: Area) -> None:
    """Draw marks and the cursor as vertical lines behind the curves."""
    uprights = [(mark.along(lens.axis), "┊", MARK) for mark in plot.marks]
    uprights += [(lens.cursor, "│", CURSOR)] if lens.cursor is not None else []
    for x, character, color in uprights:
        if (column := area.column(x)) is not None:
            for row in cells:
                if row[column][0] == " ":
                    row[column] = (character, color)


def _y_labels(area: Area) -> dict[int, str]:
    low, high = area.y_range
    most = max(3, area.num_rows // 3)
    found = log_ticks(10.0**low, 10.0**high, most) if area.is_log else ticks(low, high, most)
    rows = {row_of(math.log10(one) if area.is_log else one, area.y_range, area.num_rows): one for one in found}
    return {row: tick_text(value) for row, value in rows.items() if 0 <= row < area.num_rows}


def _ends(plot: Plot, lines: list[tuple[Floats, Floats]], area: Area) -> dict[int, Piece]:
    """Each curve's letter at the row of its last visible point, so that curves differ in more than color.

    Letters that would share a row are moved to the rows below, in the order of their values; one that would end up more
    than ``FARTHEST`` rows away is left out.
    """
    if len(plot.curves) < 2:
        return {}
    wanted: list[tuple[int, float, Piece]] = []
    for letter, one, (x, value) in zip(_letters(plot), plot.curves, lines, strict=True):
        shown = value[np.isfinite(value) & (x <= area.x_range[1])]
        if len(shown):
            row = min(area.num_rows - 1, max(0, row_of(float(shown[-1]), area.y_range, area.num_rows)))
            wanted.append((row, -float(shown[-1]), (letter, one.color)))
    wanted.sort()
    # First push letters down until no two share a row, then push those below the chart up again.
    rows: list[int] = []
    for row, _, _ in wanted:
        rows.append(max(row, rows[-1] + 1) if rows else row)
    for place in reversed(range(len(rows))):
        below = rows[place + 1] if place + 1 < len(rows) else area.num_rows
        rows[place] = min(rows[place], below - 1)
    pairs = zip(rows, wanted, strict=True)
    return {row: piece for row, (near, _, piece) in pairs if row >= 0 and abs(row - near) <= FARTHEST}


def _x_axis(name: str, area: Area) -> list[Row]:
    """The x axis and its tick labels."""
    text, width = TEXTS.get(name, tick_text), area.num_columns
    line, labels, free_from = ["─"] * width, [" "] * (width + 3), 0
    found = ticks(*area.x_range, max(2, width // 10))
    # Steps and trials are whole numbers; a tick at half a step would mislead.
    for value in found if name in TEXTS else [value for value in found if value == round(value)]:
        column = column_of(value, area.x_range, width)
        label = text(value)
        start = max(0, column - len(label) // 2)
        if not 0 <= column < width or start < free_from or start + len(label) > width + 2:
            continue
        line[column] = "┬"
        labels[start : start + len(label)] = label
        free_from = start + len(label) + 1
    return [
        [(" " * LABEL_WIDTH + "└", FAINT), ("".join(line), FAINT)],
        [(name.rjust(LABEL_WIDTH) + " ", FAINT), ("".join(labels[: width + 2]), FAINT)],
    ]


def _joined(cells: Row) -> Row:
    """Adjacent cells of one color merged into one piece."""
    row: Row = []
    for text, color in cells:
        if row and row[-1][1] == color:
            row[-1] = (row[-1][0] + text, color)
        else:
            row.append((text, color))
    return row


def _filled(rows: list[Row], width: int, height: int) -> list[Row]:
    """Exactly ``height`` rows of at least ``width`` cells, padded with blanks."""
    filled = []
    for row in [*rows[:height], *([[]] * (height - len(rows)))]:
        length = sum(len(text) for text, _ in row)
        filled.append([*row, (" " * (width - length), INK)] if length < width else row)
    return filled
