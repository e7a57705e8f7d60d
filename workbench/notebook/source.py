"""What a notebook names, and where it lies: a run's id or path, one's own or one that came with the workbench."""

import os
from pathlib import Path

from workbench.errors import unknown
from workbench.resources import find_resource, roots
from workbench.runs.directory import RunDirectory, find_run, list_runs

SHIPPED = Path("data_samples") / "runs"
USUAL = (Path("runs"), Path("..") / "runs")  # beside the notebook, or beside the folder of notebooks


def default_runs_dir() -> Path:
    """``$WORKBENCH_RUNS``, which ``workbench notebook`` sets; or the first of the usual places that is there."""
    if chosen := os.environ.get("WORKBENCH_RUNS"):
        return Path(chosen).expanduser()
    return next((folder for folder in USUAL if folder.is_dir()), USUAL[0])


def open_run(run: str | Path | RunDirectory, runs_dir: Path | None = None) -> RunDirectory:
    """The run with this id among one's own runs, at this path, or among those that came with the workbench.

    Args:
        runs_dir: where one's own are; see :func:`default_runs_dir`.

    Raises:
        ValueError: there is none; the nearest id is named.
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
    """The ids of the runs that came with the workbench."""
    return sorted({run.id for root in roots() for run in list_runs(root / SHIPPED)})
