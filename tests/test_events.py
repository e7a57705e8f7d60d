"""Events survive the way to disk and back, whatever is in them and whoever wrote them."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.events import (
    EVENTS,
    SCHEMA,
    CheckpointSaved,
    EvalDone,
    Event,
    RunFinished,
    StepDone,
    Unknown,
    Warned,
    parse_event,
)

floats = st.floats()
numbers = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), floats, max_size=3)


def strict_json(line):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(line, parse_constant=refuse)


def equal(a, b):
    """Equality in which NaN equals itself."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return a == b


def test_the_promised_events_exist():
    assert set(EVENTS) == {
        *("RunStarted", "RunResumed", "StageStarted", "StepDone", "EvalStarted", "EvalDone", "CheckpointSaved"),
        *("Warned", "Commanded", "Forked", "RunFinished"),
    }


@settings(deadline=None)
@given(value=floats, terms=numbers)
def test_any_number_comes_back_bit_for_bit_through_strict_json(value, terms):
    event = StepDone(
        run="a",
        step=3,
        loss=value,
        terms=terms,
        weighted=terms,
        scales={},
        learning_rate=value,
        grad_norm=value,
        step_time_s=0.1,
        pairs_per_s=1.0,
        elapsed_s=1.0,
        peak_mb=1.0,
    )
    line = event.to_line()
    assert strict_json(line)["event"] == "StepDone"
    assert equal(parse_event(line).model_dump(), event.model_dump())
    assert equal(parse_event(line.encode()).model_dump(), event.model_dump())


def test_non_finite_numbers_are_written_by_name():
    event = EvalDone(
        run="a",
        step=1,
        split="test",
        num_pairs=2,
        metrics={"nan": math.nan, "up": math.inf, "down": -math.inf},
        elapsed_s=0,
    )
    assert strict_json(event.to_line())["metrics"] == {"nan": "NaN", "up": "Infinity", "down": "-Infinity"}


@settings(deadline=None)
@given(st.text())
def test_any_text_is_one_line_that_utf8_can_hold(text):
    event = Warned(run="a", step=1, message=text)
    line = event.to_line()
    assert "\n" not in line
    assert "\r" not in line
    assert parse_event(line.encode("utf-8")) == event
    if text.isascii():
        assert event.message == text


def test_a_path_with_bytes_that_are_no_text_is_escaped():
    path = b"runs/caf\xe9".decode("utf-8", "surrogateescape")
    event = CheckpointSaved(run="a", step=1, path=path, weights_sha256="0")
    assert event.path == "runs/caf\\udce9"
    assert parse_event(event.to_line()) == event


def test_a_line_begins_with_its_schema_and_name_and_carries_the_time():
    before = time.time()
    line = RunFinished(run="a", step=5, state="finished", elapsed_s=1).to_line()
    assert line.startswith(f'{{"schema":{SCHEMA},"event":"RunFinished","run":"a","step":5,"time_s":')
    assert before <= strict_json(line)["time_s"] <= time.time()


def test_fields_of_a_later_version_are_passed_over():
    line = '{"schema":9,"event":"Warned","run":"a","step":1,"time_s":2.0,"message":"m","colour":"red"}'
    assert parse_event(line) == Warned(run="a", step=1, time_s=2.0, message="m")


def test_an_event_of_a_later_version_is_kept_and_written_back():
    line = '{"schema":9,"event":"Merged","run":"a","step":1,"time_s":2.0,"kind":"NaN","with":[{"x":1.5}]}'
    event = parse_event(line)
    assert isinstance(event, Unknown)
    assert (event.event, event.run, event.step, event.time_s) == ("Merged", "a", 1, 2.0)
    assert strict_json(event.to_line()) == json.loads(line)


def test_a_line_of_the_last_version_without_the_newer_fields_is_read():
    line = '{"event":"EvalDone","run":"a","step":1,"split":"test","num_pairs":2,"metrics":{},"elapsed_s":1}'
    event = parse_event(line)
    assert isinstance(event, EvalDone)
    assert event.errors == event.chance == event.teacher == {}


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "3", "null", "{}", '{"event":"Later"}', '{"event":"Warned","run":"a","step":1}', b"\xff"],
)
def test_what_is_no_event_is_a_value_error(line):
    with pytest.raises(ValueError):  # noqa: PT011 - the text is pydantic's
        parse_event(line)


def test_events_cannot_be_changed():
    event = Warned(run="a", step=1, message="m")
    with pytest.raises(ValueError, match="frozen"):
        event.step = 2
    assert isinstance(event, Event)
