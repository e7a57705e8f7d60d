"""Finding the runs that a notebook names, in the user's runs folder or among the runs shipped with the package."""

import os
from pathlib import Path

from workbench.errors import unknown
from workbench.resources import find_resource, roots
from workbench.runs.directory import RunDirectory, find_run, list_runs

SHIPPED = Path("data_samples") / "runs"
USUAL = (Path("runs"), Path("..") / "runs")  # next to the notebook, or to its folder


def default_runs_dir() -> Path:
    """``$WORKBENCH_RUNS``, which ``workbench notebook`` sets; else the first existing folder of ``USUAL``."""
    if chosen := os.environ.get("WORKBENCH_RUNS"):
        return Path(chosen).expanduser()
    return next((folder for folder in USUAL if folder.is_dir()), USUAL[0])


def open_run(run: str | Path | RunDirectory, runs_dir: Path | None = None) -> RunDirectory:
    """The run with this id or path, from the runs folder or the shipped runs.

    Args:
        runs_dir: the user's runs folder; see :func:`default_runs_dir`.

    Raises:
        ValueError: there is no such run; the message suggests the nearest id.
    """
    if isinstance(run, RunDirectory):
        return run
    folder = default_runs_dir() if runs_dir is None else runs_dir
    try:
        return find_run(folder, run)
    except ValueError:
        if shipped := find_resource(str(SHIPPED / run)):
            found = RunDirectory(shipped.resolve())
            if found.exists:
                return found
        known = [one.id for one in list_runs(folder)] + shipped_runs()
        raise unknown("run", str(run), known) from None


def shipped_runs() -> list[str]:
    """The ids of the runs that ship with the package."""
    return sorted({run.id for root in roots() for run in list_runs(root / SHIPPED)})
