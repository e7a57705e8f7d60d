"""A command of the workbench in a process that outlives the one that started it, and what it said in the end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.process import start_detached, started_at

COMPLAINS = "workbench: "  # begins the line in which a command says why it failed


@dataclass(frozen=True)
class Apart:
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


def start_apart(arguments: Sequence[str], output: Path) -> Apart:
    """Starts ``workbench ARGUMENTS``.

    Raises:
        ValueError: it cannot be started, or ``output`` cannot be written.
    """
    num_old_bytes = output.stat().st_size if output.exists() else 0
    pid = start_detached([sys.executable, "-m", "workbench", *arguments], output)
    return Apart(pid, started_at(pid), output, num_old_bytes)


def last_line(said: str) -> str:
    """The last line of what a command has printed; empty where it has printed nothing."""
    lines = said.strip().splitlines()
    return lines[-1] if lines else ""


def why_failed(line: str) -> str:
    """What the last line of a command that failed says, without the program's name before it."""
    return line.removeprefix(COMPLAINS) or "it said nothing"
