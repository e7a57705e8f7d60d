"""Where a search looks: a range of numbers, or a few choices."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from workbench.config.base import Config

Scalar = bool | int | float | str
SLACK = 1e-8  # in steps: 0.1 + 2 · 0.1 is not 0.3


class Range(Config):
    """Numbers to search between; whole ones where both ends are written without a point."""

    low: int | float
    """The smallest."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether ratios count, not differences."""
    step: int | float | None = None
    """Only low, low + step, low + 2 step and so on."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low must be below high (got {self.low} and {self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0 (got {self.low})")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step: leave out one of the two")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0 (got {self.step})")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether it has whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    def holds(self, value: Any) -> bool:
        """Whether a search of it may come to this value."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.is_whole else None)
        steps = (value - self.low) / step if step else 0.0
        return abs(steps - round(steps)) < SLACK


class Choices(Config):
    """Values to search among."""

    choices: list[Scalar] = Field(min_length=2)
    """All that may be chosen; no order is assumed."""

    def holds(self, value: Any) -> bool:
        """Whether it is one of them; True is not 1."""
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)


def _kind(axis: Any) -> str:
    has_choices = isinstance(axis, Choices) or (isinstance(axis, dict) and "choices" in axis)
    return "<choices>" if has_choices else "<range>"


Axis = Annotated[Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")], Discriminator(_kind)]
