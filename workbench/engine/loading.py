"""Load the record of a run from disk."""

from dataclasses import dataclass
from pathlib import Path

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.events import Event
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.log import read_history
from workbench.runs.summary import Summary, summarize


@dataclass(frozen=True, repr=False)
class RunRecord:
    """A run on disk: its config, its events, and their summary."""

    directory: RunDirectory
    config: RunConfig
    events: list[Event]
    summary: Summary

    def __repr__(self) -> str:
        """One line, since all events would fill a notebook."""
        end = self.summary
        return f"<run {end.id}: {end.state} at step {end.step} of {end.num_steps}, {len(self.events):,} events>"


def load_run(run: str | Path, runs_dir: Path = Path("runs")) -> RunRecord:
    """The record of a run, by id or directory, running or ended.

    Raises:
        ValueError: there is no such run; names the nearest id.
    """
    directory = find_run(runs_dir, run)
    events = read_history(directory).events
    return RunRecord(directory, load_run_config(directory.config_file), events, summarize(directory))
