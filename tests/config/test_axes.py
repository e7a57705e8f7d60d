"""Search ranges: the values that an axis contains are those that Optuna may sample."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.axes import Choices, Range
from workbench.config.study import Study
from workbench.sweeps.space import distributions

WHOLE, REAL = st.integers(-5, 30), st.floats(-5, 30, allow_nan=False).map(lambda value: round(value, 2))


def optunas(axis):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an end that no step leads to is moved
        return distributions(Study(name="s", question="?", search={"loss.fd.weight": axis}, trials=1))["loss.fd.weight"]


@st.composite
def ranges(draw):
    numbers = draw(st.sampled_from([WHOLE, REAL]))
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    shape = draw(st.sampled_from(["plain", "log", "step"]))
    if shape == "log":
        low, high = low + 6, high + 6
    return Range(low=low, high=high, log=shape == "log", step=draw(st.integers(1, 4)) if shape == "step" else None)


@given(ranges(), WHOLE | REAL)
def test_a_range_holds_what_optuna_holds(axis, value):
    known = optunas(axis)
    try:
        expected = known._contains(known.to_internal_repr(value))
    except ValueError:
        expected = False  # a logarithmic range knows no number below 0
    assert axis.holds(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "2", None, [2]])
def test_a_range_holds_numbers_alone(value):
    assert not Range(low=0, high=4).holds(value)
    assert not Range(low=0.0, high=4.0, step=0.5).holds(value)


def test_a_step_of_a_tenth_leads_to_every_tenth():
    tenths = Range(low=0.1, high=0.9, step=0.1)
    assert all(tenths.holds(tenth / 10) for tenth in range(1, 10))
    assert not tenths.holds(0.15)


def test_choices_hold_themselves():
    axis = Choices(choices=[0.25, "paper", True])
    assert [axis.holds(value) for value in (0.25, "paper", True)] == [True] * 3
    assert not any(axis.holds(value) for value in (1, "true", 0.5, None))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "table", [{"low": None, "high": 2.0}, {"low": 1.0, "high": None}, {"choices": [1.0, None]}], ids=str
)
def test_an_axis_of_no_finite_numbers_is_refused_with_its_name(table, number):
    bad = {
        key: [number if v is None else v for v in value] if isinstance(value, list) else value or number
        for key, value in table.items()
    }
    study = {"name": "s", "question": "Q", "trials": 2, "search": {"loss.fd.weight": bad}}
    with pytest.raises(ValueError, match=r"^search\.loss\.fd\.weight\..*(nan|inf)"):
        Study.parse(study)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_axis_holds_a_number_that_is_not_finite(number):
    axes = (
        Range(low=1, high=9),
        Range(low=0.1, high=1.0, log=True),
        Range(low=0, high=1e308),
        Choices(choices=[1.0, 2.0]),
    )
    assert not any(axis.holds(number) for axis in axes)
