"""The user's preferences, kept between sessions of the dashboard."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.files import write_atomically

Axis = Literal["step", "time"]  # what a chart shows on its x axis
View = Literal["runs", "by study", "studies"]


class Preferences(BaseModel):
    """Theme, table and chart settings. The defaults apply if the file is missing, unreadable or of another version."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    theme: str = "workbench-dark"
    sort: str = "newest"
    filter: str = Field("", exclude=True)
    """Words that select runs; not saved, since another folder has other runs."""
    view: View = "runs"
    metric: str = ""
    """The metric of the runs table; empty for the first one that any run has."""
    pane: str = "loss"
    is_log: bool = False
    smoothing: float = 0.0
    axis: Axis = "step"


def preferences_file() -> Path:
    """``workbench/tui.json`` in the XDG state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification has relative paths ignored.
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "workbench" / "tui.json"


def read_preferences() -> Preferences:
    """Read the saved preferences, or return the defaults."""
    try:
        saved = Preferences.model_validate_json(preferences_file().read_bytes())
        return saved.model_copy(update={"filter": ""})  # earlier versions saved it
    except (OSError, RuntimeError, ValidationError):
        return Preferences()


def write_preferences(preferences: Preferences) -> None:
    """Save the preferences; on a read-only or full disk they are lost without an error."""
    try:
        preferences_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(preferences_file(), preferences.model_dump_json(indent=2) + "\n")
    except (OSError, RuntimeError):
        return
