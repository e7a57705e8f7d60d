"""Handing a run over while it trains, from a process apart: whatever becomes of that one, the run does not notice."""

import time
from dataclasses import dataclass

from workbench.adapters.tools import export_command
from workbench.runs.apart import COMPLAINS, Apart, start_apart
from workbench.runs.directory import RunDirectory

POLL_S = 0.1


@dataclass(frozen=True)
class Beside:
    """A process that follows ``run`` for ``tool`` and ends when the run ends."""

    run: RunDirectory
    tool: str
    apart: Apart

    def last_words(self, wait_s: float) -> str:
        """What it has to say now that the run is over, for which it is given ``wait_s`` seconds."""
        deadline_s = time.monotonic() + wait_s
        while self.apart.is_alive and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        if self.apart.is_alive:
            return f"{self.tool} is still writing, as process {self.apart.pid}: see {self.apart.output}"
        last = self.apart.last_line
        if last.startswith((f"{self.run.id} is in ", COMPLAINS)):
            return last
        return f"{self.tool} was killed; the run is untouched; once more with: {export_command(self.run, self.tool)}"


def start_beside(run: RunDirectory, tool: str) -> Beside:
    """Starts to follow a run that is about to train.

    Raises:
        ValueError: the process cannot be started.
    """
    follow = ["runs", "export", str(run.path), "--to", tool, "--follow"]
    return Beside(run, tool, start_apart(follow, run.path / f"{tool}.log"))
