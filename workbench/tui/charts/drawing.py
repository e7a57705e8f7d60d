"""Draws a plot as rows of colored text: heading with values, curves in braille characters, and axes."""

import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import visible
from workbench.tui.charts.plot import INK, LETTERS, Curve, Lens, Plot, full_range, seen
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


def draw(plot: Plot, lens: Lens, width: int, height: int) -> Drawing:
    """Draw the plot in ``width`` × ``height`` cells; if these are too few, only the heading."""
    plot = seen(plot, lens)
    full = full_range(plot, lens.axis)
    heading = _heading(plot, lens, width)
    if height < LEAST_HEIGHT or width < LEAST_WIDTH or (full == (0.0, 0.0) and not any(map(_len, plot.curves))):
        rows = [*heading, [(plot.empty, FAINT)]] if not any(map(_len, plot.curves)) else heading
        return Drawing(_filled(rows, width, height), 0, width, (0.0, 1.0), full)
    heading = heading[: max(1, min(MOST_HEADINGS, height - 4))]
    num_rows, num_columns = height - len(heading) - 2, width - LABEL_WIDTH - 3
    x_range = lens.window or full
    x_range = x_range if x_range[1] > x_range[0] else (x_range[0] - 0.5, x_range[1] + 0.5)
    y_range, is_log = _y_range(plot, lens, x_range)
    body = _body(plot, lens, x_range, y_range, is_log, num_columns, num_rows)
    rows = [*heading, *body, *_across(plot, lens, x_range, num_columns)]
    return Drawing(_filled(rows, width, height), LABEL_WIDTH + 1, num_columns, x_range, full)


def _len(curve: Curve) -> int:
    return len(curve.value)


def _heading(plot: Plot, lens: Lens, width: int) -> list[Row]:
    """The title, and each curve's letter, name and value: at the cursor, or the newest."""
    notes = [plot.unit] if plot.unit else []
    if plot.may_log and lens.is_log:
        num_below = sum(int((one.value <= 0).sum()) for one in plot.curves)
        notes.append("log axis" + (f", {num_below} values ≤ 0 not on it" if num_below else ""))
    if plot.may_smooth and lens.smoothing:
        notes.append(f"smoothed {lens.smoothing:g}")
    title = visible(plot.title) + (f" ({', '.join(notes)})" if notes else "")
    pieces: list[list[Piece]] = [[(title, TITLE)]]
    for letter, one in zip(_letters(plot), plot.curves, strict=True):
        if len(one.value):
            value = one.value[_nearest(one, lens)]
            pieces.append([(f"{letter} {visible(one.name)} ", one.color), (number(float(value)), INK)])
    if lens.cursor is not None and any(map(_len, plot.curves)):
        name = x_name(plot, lens)
        where = time_text(lens.cursor) if name == "time" else f"{name} {lens.cursor:,.0f}"
        pieces.append([(f"@ {where}", CURSOR)])
        span = (lens.window or full_range(plot, lens.axis))[1] - (lens.window or full_range(plot, lens.axis))[0]
        near = [mark for mark in plot.marks if abs(mark.along(lens.axis) - lens.cursor) <= 0.01 * span]
        pieces += [[(f"┊ {visible(mark.text)}", MARK)] for mark in near[:1]]
    return _wrapped(pieces, width)


def x_name(plot: Plot, lens: Lens) -> str:
    """The label of the x axis: "step", "time", or the plot's ``x_name``."""
    return plot.x_name or lens.axis


def _letters(plot: Plot) -> str:
    return (LETTERS * (1 + len(plot.curves) // len(LETTERS)))[: len(plot.curves)]


def _nearest(curve: Curve, lens: Lens) -> int:
    if lens.cursor is None:
        return len(curve.value) - 1
    return int(np.abs(curve.along(lens.axis) - lens.cursor).argmin())


def _wrapped(pieces: list[list[Piece]], width: int) -> list[Row]:
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
    """The range of the visible values, and whether the axis is logarithmic: only if a value is above 0."""
    found = []
    for one in plot.curves:
        x = one.along(lens.axis)
        near = (x >= x_range[0]) & (x <= x_range[1])
        # If no point is visible, a line between two outside points may be: take its values at the edges.
        edges = (
            np.interp(x_range, x[np.isfinite(one.value)], one.value[np.isfinite(one.value)])
            if len(x) > 1 and (np.isfinite(one.value).any())
            else np.array([])
        )
        found.append(np.concatenate([one.value[near], edges if not near.any() else np.array([])]))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    is_log = plot.may_log and lens.is_log and bool((values > 0).any())
    if is_log:
        values = values[values > 0]
    if not len(values):
        return (0.0, 1.0), False
    return with_room(float(values.min()), float(values.max()), is_log=is_log), is_log


def _scaled(value: float, is_log: bool) -> float:
    return math.log10(value) if is_log else value


def _body(
    plot: Plot, lens: Lens, x_range: Range, y_range: Range, is_log: bool, num_columns: int, num_rows: int
) -> list[Row]:
    """The rows between the heading and the axis below."""
    scaled = (_scaled(y_range[0], is_log), _scaled(y_range[1], is_log))
    lines = []
    for one in plot.curves:
        value = one.value
        if is_log:
            value = np.log10(np.where(value > 0, value, np.nan))
        lines.append((one.along(lens.axis), value))
    raster = rasterize(lines, x_range, scaled, num_columns, num_rows)
    cells: list[list[Piece]] = [
        [
            (chr(code) if owner >= 0 else " ", plot.curves[owner].color if owner >= 0 else INK)
            for code, owner in zip(codes, owners, strict=True)
        ]
        for codes, owners in zip(raster.codes_HW.tolist(), raster.owner_HW.tolist(), strict=True)
    ]
    _draw_upright(cells, plot, lens, x_range)
    _draw_nonfinite(cells, plot, lens, x_range)
    labels = _labels(y_range, scaled, is_log, num_rows)
    ends = _ends(plot, lines, x_range, scaled, num_rows)
    rows = []
    for row in range(num_rows):
        label: Row = [(labels.get(row, "").rjust(LABEL_WIDTH), FAINT), ("┤" if row in labels else "│", FAINT)]
        rows.append([*label, *_joined(cells[row]), (" ", INK), ends.get(row, (" ", INK))])
    return rows


def _draw_upright(cells: list[list[Piece]], plot: Plot, lens: Lens, x_range: Range) -> None:
    """Draw marks and the cursor as vertical lines behind the curves."""
    width = len(cells[0])
    uprights = [(mark.along(lens.axis), "┊", MARK) for mark in plot.marks]
    uprights += [(lens.cursor, "│", CURSOR)] if lens.cursor is not None else []
    for x, character, color in uprights:
        column = column_of(x, x_range, width) if math.isfinite(x) else -1
        if 0 <= column < width:
            for row in cells:
                if row[column][0] == " ":
                    row[column] = (character, color)


def _draw_nonfinite(cells: list[list[Piece]], plot: Plot, lens: Lens, x_range: Range) -> None:
    """Draw a cross at the top wherever a value is not finite."""
    width = len(cells[0])
    for one in plot.curves:
        for x in one.along(lens.axis)[~np.isfinite(one.value)].tolist():
            column = column_of(x, x_range, width) if math.isfinite(x) else -1
            if 0 <= column < width:
                cells[0][column] = ("×", one.color)


def _labels(y_range: Range, scaled: Range, is_log: bool, num_rows: int) -> dict[int, str]:
    find = log_ticks if is_log else ticks
    found = {}
    for value in find(*y_range, max(3, num_rows // 3)):
        row = row_of(_scaled(value, is_log), scaled, num_rows)
        if 0 <= row < num_rows:
            found[row] = tick_text(value)
    return found


def _ends(
    plot: Plot, lines: list[tuple[Floats, Floats]], x_range: Range, scaled: Range, num_rows: int
) -> dict[int, Piece]:
    """Each curve's letter at the row of its last visible point, so that curves differ in more than color.

    Letters that would share a row are moved to the rows below, in the order of their values; one that would end up more
    than ``FARTHEST`` rows away is left out.
    """
    if len(plot.curves) < 2:
        return {}
    wanted: list[tuple[int, float, Piece]] = []
    for letter, one, (x, value) in zip(_letters(plot), plot.curves, lines, strict=True):
        shown = value[np.isfinite(value) & (x <= x_range[1])]
        if len(shown):
            row = min(num_rows - 1, max(0, row_of(float(shown[-1]), scaled, num_rows)))
            wanted.append((row, -float(shown[-1]), (letter, one.color)))
    wanted.sort()
    # First push letters down until no two share a row, then push those below the chart up again.
    rows: list[int] = []
    for row, _, _ in wanted:
        rows.append(max(row, rows[-1] + 1) if rows else row)
    for place in reversed(range(len(rows))):
        below = rows[place + 1] if place + 1 < len(rows) else num_rows
        rows[place] = min(rows[place], below - 1)
    pairs = zip(rows, wanted, strict=True)
    return {row: piece for row, (near, _, piece) in pairs if row >= 0 and abs(row - near) <= FARTHEST}


def _across(plot: Plot, lens: Lens, x_range: Range, width: int) -> list[Row]:
    """The x axis and its tick labels."""
    name = x_name(plot, lens)
    text = time_text if name == "time" else tick_text
    line, labels, free_from = ["─"] * width, [" "] * (width + 3), 0
    found = ticks(*x_range, max(2, width // 10))
    # Steps and trials are whole numbers; a tick at half a step would mislead.
    for value in found if name == "time" else [value for value in found if value == round(value)]:
        column = column_of(value, x_range, width)
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


def _joined(cells: list[Piece]) -> Row:
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
