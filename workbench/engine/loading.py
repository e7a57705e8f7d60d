"""Picking up what a run left: its record, and its student ready to encode."""

from dataclasses import dataclass
from pathlib import Path

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.events import Event
from workbench.models.clip import Clip
from workbench.models.folder import load_folder
from workbench.models.spec import load_model
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.lineage import read_history
from workbench.runs.summary import Summary, summarise


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on disk: what it was told, what it said, and what came out."""

    directory: RunDirectory
    config: RunConfig
    events: list[Event]
    summary: Summary


def load_run(run: str | Path, runs_dir: Path = Path("runs")) -> RunRecord:
    """The record of a run, by id or directory; live runs can be read too.

    Raises:
        ValueError: there is no such run; the nearest id is named.
    """
    directory = find_run(runs_dir, run)
    events = read_history(directory).events
    return RunRecord(directory, load_run_config(directory.config_file), events, summarise(directory))


def load_student(source: str | Path, runs_dir: Path = Path("runs")) -> Clip:
    """A trained student in eval mode: ``encode_image`` takes uint8 pictures, ``tokenizer`` captions.

    Args:
        source: a run's id or directory (its newest checkpoint), or a model folder.

    Raises:
        ValueError: there is nothing to load at ``source``.
    """
    folder = Path(source)
    if folder.is_dir() and not RunDirectory(folder).exists:
        return load_folder(folder).eval()
    return load_model(f"run:{source}", runs_dir=runs_dir).eval()
