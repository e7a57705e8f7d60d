"""Processes: which machine this is, whether one still lives, and starting one that outlives the terminal."""

import functools
import os
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

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
