"""Processes of this machine: identity, liveness, and starting one that outlives its terminal."""

import functools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Processes: which machine this is, whether one still lives, and starting one that outlives the terminal.

PROC = Path("/proc")


def this_host() -> str:
    """This machine's name, as events and locks spell it."""
    return socket.gethostname()


@functools.cache
def boot_id() -> str:
    """Changes when the machine restarts; empty where the kernel does not say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started_at(pid: int) -> str | None:
    """When process ``pid`` of this machine started; None if it has ended.

    The text is opaque. Two processes that get the same pid one after the other differ in it.
    """
    if not (PROC / "self/stat").exists():
        return _started_at_by_ps(pid)
    try:
        # The program's name comes second, in brackets, and may itself hold spaces and brackets.
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_ticks = fields[0].decode(), fields[19].decode()
    return None if state in "ZX" else f"{boot_id()}/{start_ticks}"


def _started_at_by_ps(pid: int) -> str | None:
    question = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # two who ask must get the same text
    asked = subprocess.run(question, capture_output=True, text=True, check=False, env=environment)
    state, _, start = asked.stdout.strip().partition(" ")
    return None if not start or state.startswith(("Z", "X")) else start.strip()


def start_detached(argv: Sequence[str], log: Path) -> int:
    """Starts a process in its own session, deaf to this terminal, writing to ``log``; returns its pid.

    Raises:
        ValueError: the program or the log's folder is missing, or the log cannot be written.
    """
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ValueError(f"cannot start {argv[0]} with its output in {log}: {error.strerror}") from None
    # A screen that stays open collects the ended process, so that it is not listed as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def check_alone() -> None:
    """Refuse to train as one of several ranks: each would be a run of its own, none the wiser.

    Raises:
        ValueError: a launcher such as torchrun has set ``WORLD_SIZE`` above 1.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdecimal() and int(size) > 1:
        raise ValueError(
            f"WORLD_SIZE is {size}, and training runs in one process: start it without torchrun (or unset WORLD_SIZE); "
            "for several runs at once: workbench sweep --workers N"
        )


# A command of the workbench in a process that outlives the one that started it, and what it said in the end.

COMPLAINS = "workbench: "  # begins the line in which a command says why it failed


@dataclass(frozen=True)
class BackgroundProcess:
    """A process, and the file that it prints to, behind what was there before."""

    pid: int
    started: str | None
    output: Path
    num_old_bytes: int

    @property
    def is_alive(self) -> bool:
        return self.started is not None and started_at(self.pid) == self.started

    @property
    def last_line(self) -> str:
        """The last line that it has printed; empty where there is none."""
        try:
            said = self.output.read_bytes()[self.num_old_bytes :]
        except OSError:
            return ""
        return last_line(said.decode(errors="replace"))


def start_background(arguments: Sequence[str], output: Path) -> BackgroundProcess:
    """Starts ``workbench ARGUMENTS``.

    Raises:
        ValueError: it cannot be started, or ``output`` cannot be written.
    """
    num_old_bytes = output.stat().st_size if output.exists() else 0
    pid = start_detached([sys.executable, "-m", "workbench", *arguments], output)
    return BackgroundProcess(pid, started_at(pid), output, num_old_bytes)


def last_line(said: str) -> str:
    """The last line of what a command has printed; empty where it has printed nothing."""
    lines = said.strip().splitlines()
    return lines[-1] if lines else ""


def why_failed(line: str) -> str:
    """What the last line of a command that failed says, without the program's name before it."""
    return line.removeprefix(COMPLAINS) or "it said nothing"
