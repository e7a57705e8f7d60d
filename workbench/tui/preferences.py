"""The user's preferences, kept between sessions of the dashboard."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.files import write_atomically

Axis = Literal["step", "pairs", "time", "clock"]  # of a chart: training pairs seen, seconds of training, or the date
View = Literal["runs", "by study", "studies"]
MOST_FOLDERS = 50  # whose views are kept


class SavedView(BaseModel):
    """A named view of a folder's runs: what is selected, in which order, with which columns."""

    filter: str = ""
    sort: str = "newest"
    is_reversed: bool = False
    view: View = "runs"
    metric: str = ""
    columns: list[str] = []


class Preferences(BaseModel):
    """Theme, table and chart settings. The defaults apply if the file is missing, unreadable or of another version."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    theme: str = "workbench-dark"
    opens: Literal["workspace", "runs"] = "workspace"
    """The first screen of a folder with several runs: the one that was used last."""
    sort: str = "newest"
    """An order of the runs table, or a field, setting or metric."""
    is_reversed: bool = False
    filter: str = Field("", exclude=True)
    """The query that selects runs; not saved, since another folder has other runs."""
    view: View = "runs"
    metric: str = ""
    """The metric of the runs table; empty for the first one that any run has."""
    columns: list[str] = []
    """The fields, settings and metrics that were picked as columns."""
    saved: dict[str, dict[str, SavedView]] = {}
    """The named views of each folder."""
    pane: str = "loss"
    is_log: bool = False
    smoothing: float = 0.0
    axis: Axis = "step"

    def keep_view(self, folder: str, name: str) -> None:
        """Save what is shown as a view of ``folder``."""
        own = SavedView.model_validate(self.model_dump(include=set(SavedView.model_fields)) | {"filter": self.filter})
        others = {key: views for key, views in self.saved.items() if key != folder}
        kept = dict(list(others.items())[-(MOST_FOLDERS - 1) :])
        self.saved = kept | {folder: self.saved.get(folder, {}) | {name: own}}

    def forget_view(self, folder: str, name: str) -> None:
        """Delete a saved view."""
        left = {key: view for key, view in self.saved.get(folder, {}).items() if key != name}
        self.saved = {key: views for key, views in (self.saved | {folder: left}).items() if views}

    def apply_view(self, folder: str, name: str) -> None:
        """Show a saved view."""
        for key, value in self.saved[folder][name]:
            setattr(self, key, value)


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
