"""Where a run comes from and what may be changed while it trains."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from workbench.config.base import Config
from workbench.config.run import LossConfig, OptimizerConfig, RunConfig
from workbench.config.toml import read_toml
from workbench.documents import truncated
from workbench.errors import unknown

# Which study a run belongs to: the ``[sweep]`` table of its ``run.toml``, from which reports are made.


class Origin(Config):
    """The place of a run in its study."""

    model_config = ConfigDict(extra="ignore")  # a later version may say more

    study: str
    """The study's name, as the storage and the runs' ids have it."""
    cell: str
    """The cell's name."""
    values: dict[str, Any] = {}
    """The settings that set the cell apart."""
    seed: int
    """The replicate."""
    trial: int
    """The number of the trial in the storage."""
    attempt: int = 1
    """Counts up where an earlier run of this cell and seed is held by a process that does not answer."""


def read_origin(config_file: Path) -> Origin | None:
    """Where a run comes from; None for one that no study began.

    Raises:
        ValueError: the file cannot be read, or its ``[sweep]`` table is not understood.
    """
    table = read_toml(config_file).get("sweep")
    return None if table is None else Origin.parse(table)


# What can be changed in a run under way: the peak learning rate, and the weights of the losses that it has.

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
            _check_loss(config, setting, value)
            raise unknown("setting of a run under way", setting, settings)
        group, _, name = setting.rpartition(".")
        try:
            (OptimizerConfig if setting == RATE else LossConfig).parse({name: value})
        except ValueError as error:
            raise ValueError(f"{group}.{error}") from None


def _check_loss(config: RunConfig, setting: str, value: Any) -> None:
    """Refuse the weight of a loss that the run does not train with, saying how to train with it."""
    group, _, rest = setting.partition(".")
    name, _, field = rest.rpartition(".")
    own = [loss for loss, of in config.loss.items() if of.schedule.is_ever_on]
    if (group, field) != ("loss", "weight") or name in own:
        return
    near = difflib.get_close_matches(name, own, n=1)
    meant = f"; did you mean 'loss.{near[0]}.weight'?" if near and name not in config.loss else ""
    raise ValueError(
        f"the run trains without loss.{truncated(name)} (it has {', '.join(own)}){meant or '.'} A loss can be added in "
        f"a fork, not under way: workbench runs fork RUN --set {truncated(setting)}={truncated(str(value))}"
    )
