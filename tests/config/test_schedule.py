import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.run import RunConfig
from workbench.config.schedule import Schedule
from workbench.config.toml import load_recipe

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
