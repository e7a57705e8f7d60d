"""Where curves, ticks and letters fall: on one another, whatever the size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.tui.charts.raster import BLANK, column_of, rasterize, row_of


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


def test_the_greatest_is_on_top_and_the_last_at_the_right() -> None:
    assert [row_of(y, (0, 1), 10) for y in (0, 0.5, 1)] == [9, 5, 0]
    assert [column_of(x, (0, 1), 10) for x in (0, 0.5, 1)] == [0, 5, 9]
    assert row_of(2, (0, 1), 10) < 0
