"""A config refuses what it does not understand, in one line with the key's path."""

import re

import pytest
from pydantic import Field, ValidationError

from workbench.config.base import Config


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
