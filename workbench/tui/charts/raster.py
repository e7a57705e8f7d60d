"""Lines drawn with braille characters (2 × 4 dots a cell), and the ticks of axes.

Shape letters: H rows and W columns of cells, N points, D columns of dots (2 W)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.formatting import duration

Range = tuple[float, float]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Evenly spaced multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``.

    At most ``most``, or one or two more if there would be fewer than two.
    """
    if not high > low or most < 1:
        return []
    raw = (high - low) / most
    if not 1e-300 < raw < 1e300:  # a power of ten would over- or underflow
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    finer: list[float] = []
    # From the finest step to the coarsest: the first that fits wins, unless it leaves fewer than two ticks.
    for factor in (0.5, 1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first > most + 1:
            continue  # far too many to list
        found = [index * step for index in range(first, last + 1)]
        if len(found) <= most:
            return finer if len(found) < 2 and finer else found
        finer = found
    return finer


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from ``low`` to ``high`` (both above 0), with their multiples by 2 and 5 if these fit.

    A range with fewer than two of these gets the ticks of a linear axis.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1,)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if 2 <= len(found) <= most:
            return found
    if len(found) < 2:
        return [value for value in ticks(low, high, most) if value > 0]
    return found[:: math.ceil(len(found) / most)]


def tick_text(value: float) -> str:
    """A short label of a tick, such as 0.5, 1,200, 20k, 3M, 1e-05."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 10 * unit or (size >= unit and name != "k"):
            return f"{value / unit:.4g}{name}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def time_text(seconds: float) -> str:
    """The label of a tick on an axis of seconds."""
    return duration(seconds) if seconds else "0"


def with_room(low: float, high: float, *, is_log: bool) -> Range:
    """The range of an axis for values from ``low`` to ``high``: 4 % wider at each end, and never empty."""
    if is_log:
        spread = math.log(high / low)
        factor = math.exp(0.04 * spread) if spread > 1e-6 else 1.1
        return low / factor, high * factor
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


Floats = NDArray[np.float64]
BLANK = 0x2800
DOTS_ACROSS, DOTS_DOWN = 2, 4  # of a cell
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Raster:
    """Rasterized lines. ``codes_HW``: braille code points; ``owner_HW``: the line whose color a cell has, or -1."""

    codes_HW: NDArray[np.int64]
    owner_HW: NDArray[np.int64]


def rasterize(lines: list[tuple[Floats, Floats]], x_range: Range, y_range: Range, width: int, height: int) -> Raster:
    """Draw lines over one another. Lines that share cells take turns in them, column by column, so that none vanishes.

    Every column of dots covers a line's range of values there, from minimum to maximum, however many points fall into
    it: spikes stay visible. Points that are not finite are left out.
    ``lines`` are x_N (not decreasing) and y_N of each.
    """
    codes_HW = np.zeros((height, width), dtype=np.int64)
    owner_HW = np.full((height, width), -1, dtype=np.int64)
    drawn = [_dots(*line, x_range, y_range, width, height) for line in lines]
    number_HW = sum((line_HW > 0 for line_HW in drawn), np.zeros((height, width), dtype=np.int64))
    turn_HW = np.arange(width) % np.maximum(number_HW, 1)
    before_HW = np.zeros((height, width), dtype=np.int64)
    for index, line_HW in enumerate(drawn):
        codes_HW |= line_HW
        owner_HW[(line_HW > 0) & (before_HW == turn_HW)] = index
        before_HW += line_HW > 0
    return Raster(BLANK + codes_HW, owner_HW)


def column_of(x: float, x_range: Range, width: int) -> int:
    """The column of cells at ``x``; it may lie outside."""
    return _dot_of(x, x_range, DOTS_ACROSS * width) // DOTS_ACROSS


def row_of(y: float, y_range: Range, height: int) -> int:
    """The row of cells at ``y``, from the top; it may lie outside."""
    return _dot_of(y, (y_range[1], y_range[0]), DOTS_DOWN * height) // DOTS_DOWN


def _dot_of(value: float, ends: Range, num_dots: int) -> int:
    return round((value - ends[0]) / (ends[1] - ends[0]) * (num_dots - 1))


def _dots(x_N: Floats, y_N: Floats, x_range: Range, y_range: Range, width: int, height: int) -> NDArray[np.int64]:
    finite_N = np.isfinite(x_N) & np.isfinite(y_N)
    x_N, y_N = x_N[finite_N], y_N[finite_N]
    if not len(x_N):
        return np.zeros((height, width), dtype=np.int64)
    num_columns, num_rows = DOTS_ACROSS * width, DOTS_DOWN * height
    low_D, high_D = _extent(x_N, y_N, x_range, num_columns)
    scale = (num_rows - 1) / (y_range[1] - y_range[0])
    there_D = np.isfinite(low_D)
    top_D = np.where(there_D, np.rint((y_range[1] - np.where(there_D, high_D, 0.0)) * scale), num_rows)
    bottom_D = np.where(there_D, np.rint((y_range[1] - np.where(there_D, low_D, 0.0)) * scale), -1)
    # Extend each column's span to that of its left neighbor, so that a steep line has no gaps.
    both_D = there_D[1:] & there_D[:-1]
    before_top_D, before_bottom_D = top_D[:-1].copy(), bottom_D[:-1].copy()
    top_D[1:] = np.where(both_D & (before_bottom_D < top_D[1:]), before_bottom_D + 1, top_D[1:])
    bottom_D[1:] = np.where(both_D & (before_top_D > bottom_D[1:]), before_top_D - 1, bottom_D[1:])
    row_R = np.arange(num_rows)[:, None]
    is_on_RD = (row_R >= top_D) & (row_R <= bottom_D)
    cells = is_on_RD.reshape(height, DOTS_DOWN, width, DOTS_ACROSS).transpose(0, 2, 1, 3)
    codes_HW: NDArray[np.int64] = (cells * DOTS).sum((2, 3))
    return codes_HW


def _extent(x_N: Floats, y_N: Floats, x_range: Range, num_columns: int) -> tuple[Floats, Floats]:
    """The minimum and maximum of a line in every column of dots [D] each; NaN outside the line."""
    position_N = (x_N - x_range[0]) / (x_range[1] - x_range[0]) * (num_columns - 1)
    # Interpolation fills columns between sparse points; the points themselves then widen the span of their columns.
    low_D = np.interp(np.arange(num_columns), position_N, y_N, left=np.nan, right=np.nan)
    inside_N = (position_N >= -0.5) & (position_N < num_columns - 0.5)
    column_N = np.rint(position_N[inside_N]).astype(np.int64)
    high_D = low_D.copy()
    np.fmin.at(low_D, column_N, y_N[inside_N])
    np.fmax.at(high_D, column_N, y_N[inside_N])
    return low_D, high_D
