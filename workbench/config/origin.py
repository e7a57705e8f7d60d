"""Which study a run belongs to: the ``[sweep]`` table of its ``run.toml``, from which reports are made."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from workbench.config.base import Config
from workbench.config.toml import read_toml


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
