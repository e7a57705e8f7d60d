"""What a person can ask of a run, and what it will do: said before, sent after."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.config.steering import changeable, check_changes
from workbench.config.toml import at_length, load_run_config, split_override, with_overrides
from workbench.process import COMPLAINS, BackgroundProcess, last_line, start_background, why_failed
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.control import send_command
from workbench.runs.directory import RunDirectory
from workbench.sweeps.storage import default_file
from workbench.tui.text import number

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Command:
    """One command for a run under way: its kind, what it will do, and its arguments."""

    kind: str
    title: str
    what_happens: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def send(self, run: RunDirectory) -> None:
        """Leaves it for the run.

        Raises:
            ValueError: the run has ended since, or its folder cannot be written.
        """
        send_command(run, self.kind, **self.arguments)


CHECKPOINT = Command(
    "checkpoint",
    "save a checkpoint now",
    "The run finishes its step, saves its weights and all that resuming needs, and trains on. "
    "It keeps as many of the newest checkpoints as log.keep_checkpoints says; the oldest may go.",
)
STOP = Command(
    "stop",
    "stop and save",
    "The run finishes its step, saves a checkpoint and ends its process, without an evaluation. "
    "Nothing is lost: R goes on with it from there.",
)
PAUSE = Command(
    "pause",
    "pause",
    "The run finishes its step and waits, keeping its memory (and a GPU's), until it is told to continue. "
    "Runs that train in lockstep with it wait too.",
)
CONTINUE = Command("continue", "continue", "The run goes on with its next step, as if it had not waited.")


def settings_of(run: RunDirectory) -> dict[str, str]:
    """What can be changed under way, and what it was at the start.

    Raises:
        ValueError: the run's settings cannot be read.
    """
    config = load_run_config(run.config_file)
    values = {"optimizer.learning_rate": config.optimizer.learning_rate}
    values |= {f"loss.{name}.weight": loss.schedule.value for name, loss in config.loss.items()}
    return {name: f"{values[name]:g}" for name in changeable(config)}


def changing(run: RunDirectory, text: str) -> Command:
    """The command that changes settings from the next step on, from ``name=value``, or several with spaces between.

    Raises:
        ValueError: a setting that cannot change under way, or a value that it cannot have.
    """
    changes = dict(split_override(part) for part in text.split())
    check_changes(load_run_config(run.config_file), changes)
    said = ", ".join(
        f"{name} = {number(value) if isinstance(value, float) else value}" for name, value in changes.items()
    )
    return Command(
        "set",
        f"from the next step on: {said}",
        "It is written into the run's log, is drawn as a mark on its curves, and holds when the run is resumed.",
        changes,
    )


async def complaint(apart: BackgroundProcess) -> str:
    """Waits until a command has ended; returns what was wrong in its own words, or nothing."""
    while apart.is_alive:
        await asyncio.sleep(LOOK_EVERY_S)
    last = apart.last_line
    return why_failed(last) if last.startswith(COMPLAINS) else ""


def resume(run: RunDirectory) -> BackgroundProcess:
    """Goes on with a run that stopped or died.

    Raises:
        ValueError: it cannot be started.
    """
    return start_background(["runs", "resume", str(run.path)], run.output_file)


def start_sweep(arguments: list[str], runs_dir: Path, study: str) -> BackgroundProcess:
    """Starts a sweep.

    Raises:
        ValueError: it cannot be started.
    """
    log = default_file(runs_dir, study).with_suffix(".log")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {log.parent}: {error.strerror or error}") from None
    return start_background(arguments, log)


def fork_command(run: RunDirectory, filled: Mapping[str, str]) -> list[str]:
    """The command line of a fork, from a form's ``at``, ``changes``, ``steps`` and ``name``.

    Raises:
        ValueError: there is no such checkpoint, or a setting that cannot be.
    """
    steps = sorted(map(checkpoint_step, checkpoints(run)))
    if not steps:
        raise ValueError("this run has no checkpoint yet: C saves one")
    if filled["at"] and (not filled["at"].isdecimal() or int(filled["at"]) not in steps):
        raise ValueError(f"there are checkpoints after steps {', '.join(map(str, steps))}: name one of them")
    changes = filled["changes"].split()
    config = with_overrides(load_run_config(run.config_file), changes)
    if filled["steps"]:
        if not filled["steps"].isdecimal():
            raise ValueError(f"steps must be a number (got {filled['steps']!r})")
        config = at_length(config, int(filled["steps"]), changes)
    at = int(filled["at"] or steps[-1])
    if at >= config.train.num_steps:
        raise ValueError(
            f"the fork begins after step {at} and would end at {config.train.num_steps}: ask for more steps"
        )
    return [
        *("runs", "fork", str(run.path), "--runs", str(run.path.parent), "--detach", "--json"),
        *(("--at", filled["at"]) if filled["at"] else ()),  # else the newest then: a live run may have dropped this one
        *(part for change in changes for part in ("--set", change)),
        *(("--steps", filled["steps"]) if filled["steps"] else ()),
        *(("--name", filled["name"]) if filled["name"] else ()),
    ]


def fork_said(run: RunDirectory, filled: Mapping[str, str]) -> str:
    """What a fork so filled in would do.

    Raises:
        ValueError: as :func:`fork_command`.
    """
    fork_command(run, filled)
    at = f"after step {filled['at']}" if filled["at"] else "after its newest checkpoint"
    changes = filled["changes"] or "the same settings"
    return (
        f"A new run begins from {run.id} {at}, with {changes}, in a process of its own. {run.id} itself is not touched."
    )


async def call(arguments: list[str]) -> str:
    """Runs a ``workbench`` command apart from the screen; returns what it printed.

    Raises:
        ValueError: it failed, with its last line on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workbench", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise ValueError(why_failed(last_line(err.decode(errors="replace"))))
    return out.decode(errors="replace")
