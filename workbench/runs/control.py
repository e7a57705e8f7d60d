"""Commands to a run: small files in ``control/`` that the run reads and removes in the order they were sent."""

import secrets
import stat
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.files import remove, write_atomically
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status

MAX_BYTES = 64 * 1024


class Command(BaseModel):
    """A command to a run: ``stop``, ``checkpoint``, ``pause``, ``continue`` ...

    A file that is not a command has kind ``unreadable``, with its ``file`` and the ``reason`` as arguments.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    arguments: dict[str, Any] = {}


def send_command(run: RunDirectory, kind: str, **arguments: Any) -> None:
    """Queue a command for the run.

    Raises:
        ValueError: the run has ended, or the command cannot be written.
    """
    state = run_status(run).state
    if state not in TAKES_COMMANDS:
        resume = "" if state == "finished" else f"; to resume it: workbench runs resume {run.id}"
        raise ValueError(f"run '{run.id}' is {state}: there is no process to {kind}{resume}")
    command = Command(kind=kind, arguments=arguments)
    try:
        run.control.mkdir(exist_ok=True)
        # Later than every waiting command, so that name order is sending order even if the clock was set back.
        stamp = max([time.time_ns(), *(1 + _stamp(path.name) for path in run.control.iterdir())])
        write_atomically(run.control / f"{stamp:020d}-{secrets.token_hex(4)}.json", command.model_dump_json())
    except OSError as error:
        raise ValueError(f"cannot {kind} run '{run.id}': {error}") from None


def _stamp(name: str) -> int:
    """The time in a command's file name, ns; keeps the order even if the clock is set back."""
    digits = name.partition("-")[0]
    return int(digits) if len(digits) == 20 and digits.isdecimal() else 0


def take_commands(run: RunDirectory) -> list[Command]:
    """Read and remove the waiting commands, in the order they were sent. Takes microseconds if there are none.

    A resumed run discards commands left over from before.
    """
    try:
        waiting = sorted(path for path in run.control.iterdir() if not path.name.startswith("."))
    except OSError:  # polled again at the next step
        return []
    commands = [_take(path) for path in waiting]
    return [command for command in commands if command is not None]


def _take(path: Path) -> Command | None:
    try:
        command = _read(path)
        remove(path)
    except FileNotFoundError:  # another reader took it first
        return None
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    return command


def _read(path: Path) -> Command:
    if not stat.S_ISREG(path.lstat().st_mode):
        return _unreadable(path, "not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES)
    try:
        return Command.model_validate_json(content)
    except ValueError:
        return _unreadable(path, f"not a command: {content[:60]!r}")


def _unreadable(path: Path, reason: str) -> Command:
    return Command(kind="unreadable", arguments={"file": path.name, "reason": reason})
