"""Schedules of a loss weight: constant, a ramp, or active in a range of steps."""

import math
from typing import Literal

from pydantic import Field, model_validator

from workbench.config.base import Config


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
        changes: dict[str, int] = {}
        for name in ("ramp_steps", "on_step", "off_step"):
            if steps := getattr(self, name):
                changes[name] = max(1, round(steps * ratio))
        return self.model_copy(update=changes)
