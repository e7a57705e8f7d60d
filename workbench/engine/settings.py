"""A run's settings after its recipe: paths made absolute, files that have moved, and changes during training."""

import os
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import tomli_w

from workbench.config.run import INHERITED, RunConfig
from workbench.config.study import flat, nested
from workbench.config.toml import load_run_config, merge, read_toml, with_overrides, with_settings
from workbench.data import spec as data
from workbench.events import Commanded, RunResumed
from workbench.files import write_atomically
from workbench.models import names as models
from workbench.runs.directory import RunDirectory
from workbench.runs.log import effective_events, read_events

PATHS = {
    **dict.fromkeys(
        ("data.train", "data.validation", "data.test", "dense.data", "dense.validation"), data.absolute_spec
    ),
    **dict.fromkeys(("teacher.model", "student.model", "inheritance.source"), models.absolute_spec),
}
LOSS_FILE = re.compile(r"loss\.[^.]+\.file")


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config with every path absolute; relative ones start at the working directory."""
    changes = {}
    for name, absolute in PATHS.items():
        given = attrgetter(name)(config)
        if given not in ("", INHERITED) and (whole := absolute(given)) != given:
            changes[name] = whole
    return with_settings(config, nested(changes)) if changes else config


def absolute_table(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """:func:`with_absolute_paths` of a config as it was recorded; unchanged where another version recorded it."""
    try:
        return with_absolute_paths(RunConfig.parse(dict(table))).model_dump(mode="json")
    except ValueError:
        return table


def is_path(setting: str) -> bool:
    """Whether a setting, by its dotted name, is a path."""
    return setting in PATHS or LOSS_FILE.fullmatch(setting) is not None


def moved(run: RunDirectory, overrides: Sequence[str]) -> tuple[RunConfig, dict[str, str]]:
    """The config of a run whose files have moved, and their old paths by setting.

    Raises:
        ValueError: an override changes more than paths.
    """
    before = load_run_config(run.config_file)
    if not overrides:
        return before, {}
    after = with_absolute_paths(with_overrides(before, list(overrides)))
    old, new = (flat(config.model_dump(mode="json")) for config in (with_absolute_paths(before), after))
    changed = {name: old.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    for name in sorted(changed):
        if not is_path(name):
            raise ValueError(
                f"runs resume takes new paths only ({', '.join(PATHS)}, loss.NAME.file), and {name} would make it "
                f"another run: workbench runs fork {run.id} --set {name}=VALUE"
            )
    return after, {name: str(value) for name, value in changed.items()}


def moved_before(run: RunDirectory) -> Mapping[str, Any]:
    """The original paths of files that have moved since the run started, by setting."""
    recorded = read_toml(run.config_file).get("machine", {}).get("moved", {})
    return recorded if isinstance(recorded, dict) else {}


def record_move(run: RunDirectory, config: RunConfig, changed: Mapping[str, str]) -> None:
    """Write the new paths into ``run.toml``, and the original ones under ``machine.moved``."""
    now = flat(config.model_dump(mode="json"))
    table = merge(read_toml(run.config_file), nested({name: now[name] for name in changed}))
    table = merge(table, {"machine": {"moved": {**changed, **moved_before(run)}}})
    stat = run.config_file.stat()
    write_atomically(run.config_file, tomli_w.dumps(table))
    os.utime(run.config_file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # runs are listed by this time


def applied_overrides(run: RunDirectory, until_step: float) -> dict[str, Any]:
    """Settings changed in the run's own log up to a step; the last value of each."""
    events = effective_events(read_events(run.events_file, (Commanded, RunResumed)).events)
    changes: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Commanded) and event.command == "set" and event.step <= until_step:
            changes |= event.arguments
    return changes
