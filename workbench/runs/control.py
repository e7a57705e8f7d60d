"""Commands to a run: small files that anyone drops into ``control/`` and the run takes out, in order."""

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
    """What a run is asked to do: ``stop``, ``checkpoint``, ``pause``, ``continue`` ...

    Of kind ``unreadable`` are files that are no command; their ``arguments`` name the ``file`` and the
    ``reason``.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    arguments: dict[str, Any] = {}


def send_command(run: RunDirectory, kind: str, **arguments: Any) -> None:
    """Leaves a command for the run, to be taken after those already waiting.

    Raises:
        ValueError: the run has ended, so nothing would take it; or it cannot be written.
    """
    state = run_status(run).state
    if state not in TAKES_COMMANDS:
        resume = "" if state == "finished" else f"; to go on with it: workbench runs resume {run.id}"
        raise ValueError(f"run '{run.id}' is {state}, there is no process to {kind}{resume}")
    command = Command(kind=kind, arguments=arguments)
    try:
        run.control.mkdir(exist_ok=True)
        stamp = max([time.time_ns(), *(1 + _stamp(path.name) for path in run.control.iterdir())])
        write_atomically(run.control / f"{stamp:020d}-{secrets.token_hex(4)}.json", command.model_dump_json())
    except OSError as error:
        raise ValueError(f"cannot {kind} run '{run.id}': {error}") from None


def _stamp(name: str) -> int:
    """When the command of this name was sent, so that order holds even if the clock is set back."""
    digits = name.partition("-")[0]
    return int(digits) if len(digits) == 20 and digits.isdecimal() else 0


def take_commands(run: RunDirectory) -> list[Command]:
    """The waiting commands in the order they were sent; they are removed. A poll of none costs microseconds.

    A run that is resumed takes, and drops, what its earlier life left behind.
    """
    try:
        waiting = sorted(path for path in run.control.iterdir() if not path.name.startswith("."))
    except OSError:  # asked again at the next step
        return []
    commands = [_take(path) for path in waiting]
    return [command for command in commands if command is not None]


def _take(path: Path) -> Command | None:
    try:
        command = _read(path)
        remove(path)
    except FileNotFoundError:  # another reader was quicker
        return None
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    return command


def _read(path: Path) -> Command:
    if not stat.S_ISREG(path.lstat().st_mode):
        return _unreadable(path, "not a plain file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES)
    try:
        return Command.model_validate_json(content)
    except ValueError:
        return _unreadable(path, f"not a command: {content[:60]!r}")


def _unreadable(path: Path, reason: str) -> Command:
    return Command(kind="unreadable", arguments={"file": path.name, "reason": reason})
