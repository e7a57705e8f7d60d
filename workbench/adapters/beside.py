"""Handing a run over while it trains, from a process apart: whatever becomes of that one, the run does not notice."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.adapters.tools import export_command
from workbench.runs.directory import RunDirectory
from workbench.runs.process import start_detached, started_at

POLL_S = 0.1


@dataclass(frozen=True)
class Beside:
    """A process that follows ``run`` for ``tool`` and ends when the run ends; it prints into ``output``."""

    run: RunDirectory
    tool: str
    pid: int
    started: str | None
    output: Path
    num_old_bytes: int

    @property
    def is_alive(self) -> bool:
        return self.started is not None and started_at(self.pid) == self.started

    def last_words(self, wait_s: float) -> str:
        """What it has to say now that the run is over, for which it is given ``wait_s`` seconds."""
        deadline_s = time.monotonic() + wait_s
        while self.is_alive and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        if self.is_alive:
            return f"{self.tool} is still writing, as process {self.pid}: see {self.output}"
        try:
            said = self.output.read_bytes()[self.num_old_bytes :].decode(errors="replace").strip()
        except OSError:
            said = ""
        last = said.splitlines()[-1] if said else ""
        if last.startswith((f"{self.run.id} is in ", "workbench: ")):
            return last
        return f"{self.tool} was killed; the run is untouched; once more with: {export_command(self.run, self.tool)}"


def start_beside(run: RunDirectory, tool: str) -> Beside:
    """Starts to follow a run that is about to train.

    Raises:
        ValueError: the process cannot be started.
    """
    command = [sys.executable, "-m", "workbench", "runs", "export", str(run.path), "--to", tool, "--follow"]
    output = run.path / f"{tool}.log"
    num_old_bytes = output.stat().st_size if output.exists() else 0
    pid = start_detached(command, output)
    return Beside(run, tool, pid, started_at(pid), output, num_old_bytes)
