"""Polylines -> braille characters: two dots across and four down in every cell.

Shape letters: H rows and W columns of cells, N points, D columns of dots (2 W).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Range = tuple[float, float]
BLANK = 0x2800
DOTS_ACROSS, DOTS_DOWN = 2, 4  # of a cell
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Picture:
    """Lines as characters. ``codes_HW``: braille code points; ``owner_HW``: which line is on top, -1 where none is."""

    codes_HW: NDArray[np.int64]
    owner_HW: NDArray[np.int64]


def rasterise(lines: list[tuple[Floats, Floats]], x_range: Range, y_range: Range, width: int, height: int) -> Picture:
    """Draws lines over one another, the first on top.

    Every column of dots shows all that a line does there, from its least to its greatest value, however many points
    fall into it. Points that are not finite are left out.

    Args:
        lines: x_N, never falling, and y_N of each.
        x_range: what is shown; from < to.
        y_range: what is shown; from < to.
    """
    codes_HW = np.zeros((height, width), dtype=np.int64)
    owner_HW = np.full((height, width), -1, dtype=np.int64)
    for index in reversed(range(len(lines))):
        line_HW = _dots(*lines[index], x_range, y_range, width, height)
        codes_HW |= line_HW
        owner_HW[line_HW > 0] = index
    return Picture(BLANK + codes_HW, owner_HW)


def column_of(x: float, x_range: Range, width: int) -> int:
    """The column of cells in which a line's dot at ``x`` falls; it may lie outside."""
    return _dot_of(x, x_range, DOTS_ACROSS * width) // DOTS_ACROSS


def row_of(y: float, y_range: Range, height: int) -> int:
    """The row of cells in which a line's dot at ``y`` falls; it may lie outside."""
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
    both_D = there_D[1:] & there_D[:-1]  # reach halfway to the neighbour, so that a steep line has no holes
    before_top_D, before_bottom_D = top_D[:-1].copy(), bottom_D[:-1].copy()
    top_D[1:] = np.where(both_D & (before_bottom_D < top_D[1:]), before_bottom_D + 1, top_D[1:])
    bottom_D[1:] = np.where(both_D & (before_top_D > bottom_D[1:]), before_top_D - 1, bottom_D[1:])
    row_R = np.arange(num_rows)[:, None]
    is_on_RD = (row_R >= top_D) & (row_R <= bottom_D)
    cells = is_on_RD.reshape(height, DOTS_DOWN, width, DOTS_ACROSS).transpose(0, 2, 1, 3)
    codes_HW: NDArray[np.int64] = (cells * DOTS).sum((2, 3))
    return codes_HW


def _extent(x_N: Floats, y_N: Floats, x_range: Range, num_columns: int) -> tuple[Floats, Floats]:
    """The least and greatest value of a line in every column of dots; NaN where it is not."""
    position_N = (x_N - x_range[0]) / (x_range[1] - x_range[0]) * (num_columns - 1)
    low_D = np.interp(np.arange(num_columns), position_N, y_N, left=np.nan, right=np.nan)
    inside_N = (position_N >= -0.5) & (position_N < num_columns - 0.5)
    column_N = np.rint(position_N[inside_N]).astype(np.int64)
    high_D = low_D.copy()
    np.fmin.at(low_D, column_N, y_N[inside_N])
    np.fmax.at(high_D, column_N, y_N[inside_N])
    return low_D, high_D
