"""The base of the export tools, and the names under which a run's numbers appear in them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.config.toml import read_toml
from workbench.events import EvalDone, Event, StepDone
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State

PROJECT = "clip-distillation-workbench"


class Sink(ABC):
    """One run in another tool, in ``self.folder``; replaces an earlier copy there.

    Any exception ends the export and is reported; the run is not affected.
    """

    tool: ClassVar[str]

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        self.run = run
        self.folder = folder.absolute() / self.tool
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def next(self) -> str:
        """How to see the result, such as "see it with: tensorboard ..."."""

    @abstractmethod
    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """Log numbers of one step by ``group/name``; they may be NaN or infinite. Steps never decrease."""

    def flush(self) -> None:  # noqa: B027  # not abstract: most tools write by themselves
        """Make everything written so far visible."""

    @abstractmethod
    def close(self, state: State) -> None:
        """End the copy, with the run's current or final state."""


def scalars(event: Event) -> dict[str, float]:
    """An event's numbers: ``train/...``, per loss ``loss/``, ``weighted/`` and ``scale/``, ``validation/`` metrics."""
    groups: dict[str, Mapping[str, float]] = {}
    if isinstance(event, StepDone):
        names = ("loss", "learning_rate", "grad_norm", "pairs_per_s", "peak_mb")
        step = {name: getattr(event, name) for name in names}
        groups = {"train": step, "loss": event.terms, "weighted": event.weighted, "scale": event.scales}
    elif isinstance(event, EvalDone):
        groups = {event.split: event.metrics}
    return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}


def settings(run: RunDirectory) -> dict[str, Any]:
    """The run's config as nested dicts, without the machine.

    Raises:
        ValueError: its ``run.toml`` cannot be read.
    """
    table = read_toml(run.config_file)
    table.pop("machine", None)
    return table


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested dicts as one, with keys ``a.b.c``; lists become text."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
