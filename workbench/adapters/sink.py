"""Where a run's numbers go: what every tool is asked to do."""

from collections.abc import Mapping
from typing import Any, Protocol

from workbench.config.toml import read_toml
from workbench.events import EvalDone, Event, StepDone
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State

# An event -> the numbers in it, by the names under which every tool groups them.


def scalars(event: Event) -> dict[str, float]:
    """``train/...`` of the step, ``loss/``, ``weighted/`` and ``scale/`` by loss, ``validation/...`` by metric."""
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
    """One run in another tool, made by ``Sink(run, folder)``; an earlier copy of it in that folder is replaced.

    What it raises ends the export and is reported; the run does not notice.
    """

    @property
    def next(self) -> str:
        """What a person does next, with the command: "see it with: ..."."""

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """Numbers of one moment, by ``group/name``; they may be NaN or infinite. Steps never fall."""

    def flush(self) -> None:
        """What was written can be seen from now on."""

    def close(self, state: State) -> None:
        """No more will come: the run is or ended in this state."""


def settings(run: RunDirectory) -> dict[str, Any]:
    """The run's config in plain tables, without the machine.

    Raises:
        ValueError: its ``run.toml`` cannot be read.
    """
    table = read_toml(run.config_file)
    table.pop("machine", None)
    return table


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested tables as ``a.b.c``; lists as text."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
