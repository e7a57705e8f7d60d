"""Commands to a live run, each with a description of its effect; and ``workbench`` processes started from a screen."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.config.toml import at_length, changeable, check_changes, load_run_config, split_override, with_overrides
from workbench.process import ERROR_PREFIX, BackgroundProcess, last_line, start_background, why_failed
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import send_command
from workbench.sweeps.storage import default_file
from workbench.tui.text import number

POLL_S = 0.5
SEPARATELY = "in a separate process that keeps running when the dashboard is closed"


@dataclass(frozen=True)
class Command:
    """A command to a live run: its kind, its effect in words, and its arguments."""

    kind: str
    title: str
    effect: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def send(self, run: RunDirectory) -> None:
        """Write the command into the run's ``control/``.

        Raises:
            ValueError: the run has ended, or its directory is not writable.
        """
        send_command(run, self.kind, **self.arguments)


CHECKPOINT = Command(
    "checkpoint",
    "save a checkpoint now",
    "The run finishes its step, saves a checkpoint and continues. Only the newest log.keep_checkpoints "
    "checkpoints are kept, so the oldest may be deleted.",
)
STOP = Command(
    "stop",
    "stop and save",
    "The run finishes its step, saves a checkpoint and ends its process, without an evaluation. "
    "R resumes it from there.",
)
PAUSE = Command(
    "pause",
    "pause",
    "The run finishes its step and waits for the command to continue. It keeps its CPU and GPU memory. "
    "Runs that train in lockstep with it wait too.",
)
CONTINUE = Command("continue", "continue", "The run continues with its next step. Its results do not change.")


def changeable_settings(run: RunDirectory) -> dict[str, str]:
    """The settings that can change during training, with their initial values as text.

    Raises:
        ValueError: the run's ``config.toml`` is unreadable.
    """
    config = load_run_config(run.config_file)
    values = {"optimizer.learning_rate": config.optimizer.learning_rate}
    values |= {f"loss.{name}.weight": loss.schedule.value for name, loss in config.loss.items()}
    return {name: f"{values[name]:g}" for name in changeable(config)}


def change_command(run: RunDirectory, text: str) -> Command:
    """The command that changes settings from the next step on; ``text`` is ``name=value ...``.

    Raises:
        ValueError: a setting cannot change during training, or its value is invalid.
    """
    changes = dict(split_override(part) for part in text.split())
    check_changes(load_run_config(run.config_file), changes)
    new_values = ", ".join(
        f"{name} = {number(value) if isinstance(value, float) else value}" for name, value in changes.items()
    )
    return Command(
        "set",
        f"from the next step on: {new_values}",
        "The change is logged, marked on the curves, and still applies after a resume.",
        changes,
    )


async def failure_of(process: BackgroundProcess) -> str:
    """Wait for a process to end; return its error message, or an empty string if it succeeded."""
    while process.is_alive:
        await asyncio.sleep(POLL_S)
    last = process.last_line
    return why_failed(last) if last.startswith(ERROR_PREFIX) else ""


def resume(run: RunDirectory) -> BackgroundProcess:
    """Resume a stopped or dead run in a separate process.

    Raises:
        ValueError: the process cannot be started.
    """
    return start_background(["runs", "resume", str(run.path)], run.output_file)


def start_sweep(arguments: list[str], runs_dir: Path, study: str) -> BackgroundProcess:
    """Start a sweep in a separate process; its output goes to a ``.log`` next to the study's storage.

    Raises:
        ValueError: the process cannot be started.
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
        ValueError: there is no such checkpoint, or a setting is invalid.
    """
    steps = sorted(map(checkpoint_step, checkpoints(run)))
    if not steps:
        raise ValueError("this run has no checkpoint yet: press C to save one")
    if filled["at"] and (not filled["at"].isdecimal() or int(filled["at"]) not in steps):
        raise ValueError(f"no checkpoint after step {filled['at']}; choose one of {', '.join(map(str, steps))}")
    changes = filled["changes"].split()
    config = with_overrides(load_run_config(run.config_file), changes)
    if filled["steps"]:
        if not filled["steps"].isdecimal():
            raise ValueError(f"steps must be a number (got {filled['steps']!r})")
        config = at_length(config, int(filled["steps"]), changes)
    at = int(filled["at"] or steps[-1])
    if at >= config.train.num_steps:
        raise ValueError(
            f"the fork starts after step {at}, but its last step is {config.train.num_steps}: increase the last step"
        )
    return [
        *("runs", "fork", str(run.path), "--runs", str(run.path.parent), "--detach", "--json"),
        # Without --at the command takes the newest checkpoint: a live run may delete today's newest before it starts.
        *(("--at", filled["at"]) if filled["at"] else ()),
        *(part for change in changes for part in ("--set", change)),
        *(("--steps", filled["steps"]) if filled["steps"] else ()),
        *(("--name", filled["name"]) if filled["name"] else ()),
    ]


def fork_summary(run: RunDirectory, filled: Mapping[str, str]) -> str:
    """A summary of the fork.

    Raises:
        ValueError: as :func:`fork_command`.
    """
    fork_command(run, filled)
    at = f"after step {filled['at']}" if filled["at"] else "after its newest checkpoint"
    changes = filled["changes"] or "the same settings"
    return f"Starts a new run from {run.id} {at}, with {changes}, in a separate process. {run.id} does not change."


async def call(arguments: list[str]) -> str:
    """Run a ``workbench`` command in a subprocess and return its stdout.

    Raises:
        ValueError: the command failed; the message is its last line on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workbench", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the dashboard's terminal must not reach the command
    )
    out, err = await process.communicate()
    if process.returncode:
        raise ValueError(why_failed(last_line(err.decode(errors="replace"))))
    return out.decode(errors="replace")
