"""Settings changed during training: they apply from the next step on, and again when the run is resumed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.config.toml import RATE, check_changes
from workbench.events import Commanded, RunResumed
from workbench.runs.directory import RunDirectory
from workbench.runs.log import effective_events, read_events

if TYPE_CHECKING:
    from workbench.engine.member import Member


def change(member: "Member", changes: Mapping[str, Any]) -> None:
    """Change settings of the member from the next step on.

    A learning rate is the peak of the schedule. A weight is translated to this run's batch and width, as in a recipe,
    and replaces any schedule.

    Raises:
        ValueError: a setting that is fixed, or an invalid value; nothing has changed then.
    """
    check_changes(member.config, changes)
    optimizer, objective = member.optimizer_config, member.objective
    for setting, value in changes.items():
        if setting == RATE:
            optimizer = optimizer.model_copy(update={"learning_rate": float(value)})
        else:
            objective = objective.reweighed(setting.split(".")[1], value)
    if objective is not member.objective:
        member.examined.clear()
    member.optimizer_config, member.objective = optimizer, objective


def applied_overrides(run: RunDirectory, until_step: float) -> dict[str, Any]:
    """Settings changed in the run's own log up to a step; the last value of each."""
    events = effective_events(read_events(run.events_file, (Commanded, RunResumed)).events)
    changes: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Commanded) and event.command == "set" and event.step <= until_step:
            changes |= event.arguments
    return changes
