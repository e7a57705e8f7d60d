"""What can be changed in a run under way: the peak learning rate, and the weights of the losses that it has."""

from collections.abc import Mapping
from typing import Any

from workbench.config.nearest import unknown
from workbench.config.run import LossConfig, OptimizerConfig, RunConfig

RATE = "optimizer.learning_rate"


def changeable(config: RunConfig) -> list[str]:
    """The settings, by dotted name. A loss that was never on has learnt nothing, and cannot be switched on."""
    return [RATE, *(f"loss.{name}.weight" for name, loss in config.loss.items() if loss.schedule.is_ever_on)]


def check_changes(config: RunConfig, changes: Mapping[str, Any]) -> None:
    """Refuse changes that cannot be.

    Raises:
        ValueError: a setting that is fixed, or a value that it cannot have, with the remedy.
    """
    settings = changeable(config)
    if not changes:
        raise ValueError(f"nothing is changed: name {' or '.join(settings)}")
    for setting, value in changes.items():
        if setting not in settings:
            raise unknown("setting of a run under way", setting, settings)
        if setting == RATE:
            OptimizerConfig.parse({"learning_rate": value})
        else:
            LossConfig.parse({"weight": value})
