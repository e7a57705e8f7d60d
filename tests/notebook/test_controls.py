"""Log sliders: what a browser does to them on display is not taken for a drag."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.notebook.controls import LOG_STEP, is_moved, log_slider


@given(value=st.floats(1, 199), high=st.sampled_from([2.0, 2.3]))
def test_a_log_slider_starts_on_its_grid(value, high) -> None:
    slider = log_slider(min(value, 10**high), (0, high), "1/τ")
    steps = math.log10(slider.value) / LOG_STEP
    assert steps == pytest.approx(round(steps), abs=1e-9)
    assert abs(math.log10(slider.value / min(value, 10**high))) <= LOG_STEP / 2 + 1e-9


def test_a_step_of_the_grid_is_a_move_and_rounding_is_none() -> None:
    assert is_moved({"old": 50.0, "new": 50.0 * 10**LOG_STEP})
    assert is_moved({"old": 50.0, "new": 50.0 / 10**LOG_STEP})
    assert not is_moved({"old": 50.0, "new": 50.1187})
