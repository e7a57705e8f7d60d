"""Search spaces of one setting: a numeric range, or a list of choices."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from workbench.config.base import Config

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
