"""Settings that change in a run under way: in force from the next step on, and again when the run is resumed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.config.steering import RATE, check_changes
from workbench.events import Commanded, RunResumed
from workbench.runs.directory import RunDirectory
from workbench.runs.log import effective_events, read_events

if TYPE_CHECKING:
    from workbench.engine.member import Member


def change(member: "Member", changes: Mapping[str, Any]) -> None:
    """Train with other settings from the next step on.

    The learning rate is the schedule's peak. A weight is what the recipe would say, carried to this run's batch and
    width like the recipe's own; it takes the place of a schedule.

    Raises:
        ValueError: a setting that is fixed, or a value that it cannot have; nothing has changed then.
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


def told(run: RunDirectory, until_step: float) -> dict[str, Any]:
    """What a run was told to change by itself up to a step, the last word on each setting, as its log has it."""
    events = effective_events(read_events(run.events_file, (Commanded, RunResumed)).events)
    changes: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Commanded) and event.command == "set" and event.step <= until_step:
            changes |= event.arguments
    return changes
