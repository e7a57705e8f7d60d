"""A config refuses what it does not understand, in one line with the key's path."""

import math
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from workbench.config.base import Choices, Config, Range, Schedule
from workbench.config.run import RunConfig
from workbench.config.study import Study
from workbench.config.toml import load_recipe
from workbench.sweeps.space import distributions


class Inner(Config):
    depth: int = 2
    """How deep."""
    pair: tuple[float, float] = (0.0, 1.0)


class Outer(Config):
    inner: Inner = Inner()
    named: dict[str, Inner] = {}
    rate: float = Field(0.5, gt=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rat": 1}, "unknown setting 'rat': did you mean 'rate'?"),
        ({"zzz": 1}, "unknown setting 'zzz': choose one of: inner, named, rate"),
        ({"inner": {"dept": 1}}, "inner: unknown setting 'dept': did you mean 'depth'?"),
        ({"named": {"a": {"dept": 1}}}, "named.a: unknown setting 'dept': did you mean 'depth'?"),
        ({"rate": 0}, "rate: input should be greater than 0 (got 0)"),
        ({"rate": "fast"}, "rate: input should be a valid number, unable to parse string as a number (got 'fast')"),
        ({"inner": {"pair": [0.1, "x\ny"]}}, "inner.pair.1: input should be a valid number"),
        ({"named": {"a": {"depth": 1.5}}}, "named.a.depth: input should be a valid integer"),
        ({"inner": 3}, "inner: input should be a valid dictionary or instance of Inner (got 3)"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(fields, message):
    with pytest.raises(ValueError, match=rf"\A{re.escape(message)}.*\Z") as raised:
        Outer.parse(fields)
    assert not isinstance(raised.value, ValidationError)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_only_finite_numbers_are_numbers(number):
    with pytest.raises(ValueError, match=r"^rate: input should be a finite number"):
        Outer.parse({"rate": number})
    with pytest.raises(ValueError, match=r"^inner\.pair\.0: input should be a finite number"):
        Outer.parse({"inner": {"pair": [number, 1]}})


def test_a_config_is_frozen_and_equal_to_its_like():
    config = Outer.parse({"inner": {"depth": 3}})
    assert config == Outer(inner=Inner(depth=3)) != Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.rate = 2.0


def test_the_string_under_a_field_documents_it():
    assert Inner.model_fields["depth"].description == "How deep."


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


schedules = st.builds(
    Schedule,
    value=st.floats(0, 10),
    initial=st.floats(0, 10),
    ramp_steps=st.integers(1, 50),
    shape=st.sampled_from(["linear", "cosine"]),
    on_step=st.integers(0, 50),
)


def test_a_number_is_constant() -> None:
    weight = load_recipe("fd", ["loss.fd.weight=3"]).loss["fd"].schedule
    assert {weight.at(step) for step in (0, 1, 10_000)} == {3.0}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [0, 1, 1.5, 2, 2.5, 3, 3]), ("cosine", [0, 1, 2 - math.sqrt(0.5), 2, 2 + math.sqrt(0.5), 3, 3])],
)
def test_a_ramp_runs_from_initial_to_value(shape: str, expected: list[float]) -> None:
    weight = Schedule(value=3, initial=1, ramp_steps=4, shape=shape, on_step=1)
    assert [weight.at(step) for step in range(7)] == pytest.approx(expected)


def test_on_and_off() -> None:
    weight = Schedule(value=2, on_step=3, off_step=5)
    assert [weight.at(step) for step in range(7)] == [0, 0, 0, 2, 2, 0, 0]


@given(schedules, st.integers(0, 200))
def test_it_stays_between_its_ends(weight: Schedule, step: int) -> None:
    if step < weight.on_step:
        assert weight.at(step) == 0
    else:
        low, high = sorted((weight.initial, weight.value))
        assert low - 1e-9 <= weight.at(step) <= high + 1e-9


@given(schedules, st.integers(2, 5))
def test_a_longer_run_has_the_same_weights_at_the_same_share_of_it(weight: Schedule, ratio: int) -> None:
    longer = weight.stretched(ratio)
    for step in range(0, 120, 7):
        assert longer.at(ratio * step) == pytest.approx(weight.at(step), abs=1e-9)


def test_a_run_of_another_length_stretches_its_schedules() -> None:
    config = load_recipe("fd", ["loss.fd.weight={ value = 2000, ramp_steps = 40, on_step = 8 }"])
    weight = config.with_steps(2 * config.train.num_steps).loss["fd"].schedule
    assert (weight.ramp_steps, weight.on_step, weight.value) == (80, 16, 2000)


def test_a_schedule_survives_the_run_directory() -> None:
    config = load_recipe("fd", ["loss.fd.weight={ value = 5, off_step = 9 }"])
    assert RunConfig.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ value = 5, initial = 1 }", "set ramp_steps"),
        ("{ value = 5, ramp_step = 10 }", "did you mean 'ramp_steps'"),
        ("{ value = -1 }", "loss.fd.weight.value: input should be greater than or equal to 0"),
        ("{ value = 1, on_step = 5, off_step = 4 }", "the weight is always 0"),
        ("many", "loss.fd.weight: input should be a valid number"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe("fd", [f"loss.fd.weight={text}"])
    assert "\n" not in str(caught.value)
