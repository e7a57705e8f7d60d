"""Where curves, ticks and letters fall: on one another, whatever the size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.tui.charts.raster import BLANK, column_of, rasterize, row_of, ticks


@given(
    value=st.floats(0, 1),
    low=st.floats(-5, 0),
    high=st.floats(1, 5),
    width=st.integers(1, 60),
    height=st.integers(1, 30),
)
def test_a_tick_lies_where_the_curve_has_its_value(value, low, high, width, height) -> None:
    drawn = rasterize([(np.array([value]), np.array([value]))], (low, high), (low, high), width, height)
    (row,), (column,) = (drawn.codes_HW != BLANK).nonzero()
    assert row == row_of(value, (low, high), height)
    assert column == column_of(value, (low, high), width)


def test_lines_that_share_cells_are_all_visible() -> None:
    x, level, rising = np.array([0.0, 1.0]), np.array([0.5, 0.5]), np.array([0.0, 1.0])
    drawn = rasterize([(x, level), (x, level), (x, rising), (x, level)], (0, 1), (0, 1), 40, 10)
    shared = drawn.owner_HW[row_of(0.5, (0, 1), 10)]
    assert {0, 1, 3} <= set(shared.tolist())
    # Each of the three equal lines has a third of their row.
    assert min((shared == index).sum() for index in (0, 1, 3)) >= 10
    alone = rasterize([(x, rising)], (0, 1), (0, 1), 40, 10)
    assert ((alone.codes_HW != BLANK) == (alone.owner_HW == 0)).all()


def test_the_greatest_is_on_top_and_the_last_at_the_right() -> None:
    assert [row_of(y, (0, 1), 10) for y in (0, 0.5, 1)] == [9, 5, 0]
    assert [column_of(x, (0, 1), 10) for x in (0, 0.5, 1)] == [0, 5, 9]
    assert row_of(2, (0, 1), 10) < 0


@pytest.mark.parametrize(("low", "high"), [(6.16, 35.7), (0, 1), (-3, 7), (1e-9, 2e-9), (0.31, 0.92), (1, 1e6)])
@pytest.mark.parametrize("most", [3, 5, 12])
def test_an_axis_has_at_least_one_tick_and_no_more_than_fit(low: float, high: float, most: int) -> None:
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most + 2
    assert len(found) > 1 or most < 5
    assert all(low - 1e-9 <= value <= high * (1 + 1e-9) for value in found)
    assert np.allclose(np.diff(found), (found[1] - found[0]) if len(found) > 1 else 0)
