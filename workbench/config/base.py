"""Base class of all configs: frozen, every field documented, unknown keys refused; schedules and search ranges."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from workbench.documents import check_bounds
from workbench.errors import truncated, unknown


class Config(BaseModel):
    """A frozen group of settings. The string under each field is its description.

    Raises:
        ValueError: from :meth:`parse`, in one line: an unknown key (with the closest known one) or a bad value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and cls.model_config.get("extra") == "forbid":
            for key in fields:
                if key not in cls.model_fields:
                    raise unknown("setting", str(key), cls.model_fields)
        return fields

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        """Validate plain data, as read from TOML."""
        for key, value in fields.items():
            check_bounds(value, truncated(str(key)))
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ValueError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    setting = ".".join(part for part in parts if not part.startswith("<"))  # <kind>: which of several types was tried
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]} (got {truncated(repr(first['input']))})"
    return f"{truncated(setting)}: {message}" if setting else message


class Schedule(Config):
    """A weight as a function of the step: 0 before ``on_step``, then a ramp from ``initial`` to ``value``, and 0 again
    from ``off_step``.

    In TOML: ``weight = { value = 2, ramp_steps = 100, shape = "cosine" }``.
    """

    value: float = Field(ge=0)
    """Weight after the ramp."""
    initial: float = Field(0.0, ge=0)
    """Weight at the first step of the ramp."""
    ramp_steps: int = Field(0, ge=0)
    """Number of steps from initial to value; 0 for no ramp."""
    shape: Literal["linear", "cosine"] = "linear"
    """Shape of the ramp."""
    on_step: int = Field(0, ge=0)
    """First step (from 0) with a non-zero weight; the ramp starts here."""
    off_step: int = Field(0, ge=0)
    """Step from which the weight is 0 again; 0 for never."""

    @model_validator(mode="after")
    def _check_effect(self) -> "Schedule":
        if not self.ramp_steps and (self.initial or self.shape != "linear"):
            raise ValueError("initial and shape need a ramp: set ramp_steps")
        if 0 < self.off_step <= self.on_step:
            raise ValueError(f"off_step {self.off_step} is not after on_step {self.on_step}: the weight is always 0")
        return self

    def at(self, step: int) -> float:
        """The weight at ``step``, from 0."""
        if step < self.on_step or 0 < self.off_step <= step:
            return 0.0
        if step >= self.on_step + self.ramp_steps:
            return self.value
        # At on_step the weight is ``initial``, and ``value`` first at on_step + ramp_steps.
        done = (step - self.on_step) / self.ramp_steps
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.initial + done * (self.value - self.initial)

    @property
    def largest(self) -> float:
        """The largest weight at any step."""
        return max(self.value, self.initial)

    @property
    def is_ever_on(self) -> bool:
        """Whether the weight is above 0 at any step."""
        return self.value > 0 or (self.initial > 0 and self.ramp_steps > 0)

    def stretched(self, ratio: float) -> "Schedule":
        """The same schedule in a run ``ratio`` times as long."""
        steps = {name: getattr(self, name) for name in ("ramp_steps", "on_step", "off_step")}
        return self.model_copy(update={name: max(1, round(n * ratio)) for name, n in steps.items() if n})


Scalar = bool | int | float | str
SLACK = 1e-8  # tolerance in steps: 0.1 + 2 · 0.1 != 0.3 in floating point


class Range(Config):
    """A numeric range; of integers if both ends are integers."""

    low: int | float
    """Lower bound, inclusive."""
    high: int | float
    """Upper bound, inclusive."""
    log: bool = False
    """Whether to sample on a logarithmic scale."""
    step: int | float | None = None
    """Restrict to low, low + step, low + 2·step, ..."""

    @model_validator(mode="after")
    def _check_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low must be below high (got {self.low} and {self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0 (got {self.low})")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step: drop log or step")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0 (got {self.step})")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the range holds integers only."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    def holds(self, value: Any) -> bool:
        """Whether the value can be sampled from the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.is_whole else None)
        steps = (value - self.low) / step if step else 0.0
        return abs(steps - round(steps)) < SLACK


class Choices(Config):
    """A list of values to choose from."""

    choices: list[Scalar] = Field(min_length=2)
    """The values, unordered."""

    def holds(self, value: Any) -> bool:
        """Whether the value is one of the choices; True does not equal 1."""
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)


def _kind(axis: Any) -> str:
    has_choices = isinstance(axis, Choices) or (isinstance(axis, dict) and "choices" in axis)
    return "<choices>" if has_choices else "<range>"


Axis = Annotated[Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")], Discriminator(_kind)]
