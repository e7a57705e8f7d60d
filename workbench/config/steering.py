"""The study that a run belongs to, and the settings that can be changed while it trains."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from workbench.config.base import Config
from workbench.config.run import LossConfig, OptimizerConfig, RunConfig
from workbench.config.toml import read_toml
from workbench.errors import truncated, unknown


class Origin(Config):
    """A run's cell, seed and trial in its study: the ``[sweep]`` table of its ``run.toml``, which reports read."""

    model_config = ConfigDict(extra="ignore")  # a later version may add keys

    study: str
    """Name of the study, as in the storage and the run ids."""
    cell: str
    """Name of the cell."""
    values: dict[str, Any] = {}
    """Settings in which the cell differs from the others."""
    seed: int
    """Seed of the replicate."""
    trial: int
    """The number of the trial in the storage."""
    attempt: int = 1
    """From 1; increases if an earlier run of this cell and seed is locked by a process that does not respond."""


def read_origin(config_file: Path) -> Origin | None:
    """The origin of a run; None for a run that does not belong to a study.

    Raises:
        ValueError: the file cannot be read, or its ``[sweep]`` table is invalid.
    """
    table = read_toml(config_file).get("sweep")
    return None if table is None else Origin.parse(table)


RATE = "optimizer.learning_rate"


def changeable(config: RunConfig) -> list[str]:
    """Dotted names of the settings that a running run accepts: the peak learning rate and the loss weights.

    A loss whose weight is always 0 cannot be enabled later: nothing was trained for it.
    """
    return [RATE, *(f"loss.{name}.weight" for name, loss in config.loss.items() if loss.schedule.is_ever_on)]


def check_changes(config: RunConfig, changes: Mapping[str, Any]) -> None:
    """Check changes to a running run.

    Raises:
        ValueError: the setting cannot be changed or the value is invalid, with the remedy.
    """
    settings = changeable(config)
    if not changes:
        raise ValueError(f"no changes given: set {' or '.join(settings)}")
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
    """Refuse the weight of a loss that the run does not train with; the error gives the command for a fork."""
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
