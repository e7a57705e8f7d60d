"""What the dashboard remembers from one time to the next."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.files import write_atomically
from workbench.tui.text import Axis

View = Literal["runs", "by study", "studies"]


class Preferences(BaseModel):
    """A person's habits. A file that cannot be read, or is of another version, is as good as none."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    theme: str = "workbench-dark"
    sort: str = "newest"
    filter: str = ""
    view: View = "runs"
    metric: str = ""
    """The headline metric; empty for the first that a run has."""
    pane: str = "loss"
    is_log: bool = False
    smoothing: float = 0.0
    axis: Axis = "step"


def preferences_file() -> Path:
    """``workbench/tui.json`` in the XDG state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"  # relative ones do not count
    return folder / "workbench" / "tui.json"


def recall() -> Preferences:
    """What was remembered."""
    try:
        return Preferences.model_validate_json(preferences_file().read_bytes())
    except (OSError, RuntimeError, ValidationError):
        return Preferences()


def remember(memory: Preferences) -> None:
    """Keeps it, where that can be written; a home that is read-only or full loses a habit, and no more."""
    try:
        preferences_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(preferences_file(), memory.model_dump_json(indent=2) + "\n")
    except (OSError, RuntimeError):
        return
