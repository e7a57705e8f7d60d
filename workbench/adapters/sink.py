"""Interface of the export tools, and the names under which a run's numbers appear in them."""

from collections.abc import Mapping
from typing import Any, Protocol

from workbench.config.toml import read_toml
from workbench.events import EvalDone, Event, StepDone
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State


def scalars(event: Event) -> dict[str, float]:
    """An event's numbers: ``train/...``, per loss ``loss/``, ``weighted/`` and ``scale/``, ``validation/`` metrics."""
    match event:
        case StepDone():
            step = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "grad_norm": event.grad_norm,
                "pairs_per_s": event.pairs_per_s,
                "peak_mb": event.peak_mb,
            }
            groups = {"train": step, "loss": event.terms, "weighted": event.weighted, "scale": event.scales}
        case EvalDone():
            groups = {event.split: event.metrics}
        case _:
            groups = {}
    return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}


PROJECT = "clip-distillation-workbench"


class Sink(Protocol):
    """One run in another tool, made by ``Sink(run, folder)``; replaces an earlier copy in that folder.

    Any exception ends the export and is reported; the run is not affected.
    """

    @property
    def next(self) -> str:
        """How to see the result, such as "see it with: tensorboard ..."."""

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """Log numbers of one step by ``group/name``; they may be NaN or infinite. Steps never decrease."""

    def flush(self) -> None:
        """Make everything written so far visible."""

    def close(self, state: State) -> None:
        """End the copy, with the run's current or final state."""


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
