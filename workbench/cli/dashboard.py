"""``workbench tui`` and ``workbench notebook``: start the dashboard or JupyterLab."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.completion import complete_run_or_study
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, Trust
from workbench.cli.output import indented, print_json, print_line, print_rows
from workbench.errors import unknown, visible
from workbench.notebook.launch import bundled_notebooks, check_jupyterlab, copy_notebooks, free_port, start
from workbench.runs.directory import RunDirectory, find_run, list_runs
from workbench.runs.studies import studies_with_runs
from workbench.tui.app import show
from workbench.tui.home.board import Board, Row
from workbench.tui.home.fields import ordered
from workbench.tui.home.table import headline, run_cells, spark_scale
from workbench.tui.preferences import Preferences
from workbench.tui.rows import Cell
from workbench.views.metrics import metric_label
from workbench.views.query import Query

ONCE_S = 3600.0  # time limit of a poll: long enough to read every log to its end


def tui(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|STUDY]",
            help="Open this run (id or directory) or study.",
            autocompletion=complete_run_or_study,
        ),
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    once: Annotated[bool, typer.Option("--once", help="Print the state of the runs once and exit.")] = False,
    json: Json = False,
) -> None:
    """Open the dashboard: watch, understand and control runs. Quitting does not affect runs.

    Press ? for all keys.

    Examples:

        workbench tui
        workbench tui clip-kd-s0-1122-1405
        workbench tui icl_weight
        workbench tui --once >> status.log
    """
    if json and not once:
        raise ValueError("--json needs --once")
    chosen, study = _find(runs, run) if run else (None, "")
    if once:
        print_once(runs, chosen.id if chosen else None, json, study)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("the dashboard needs a terminal; for logs and pipes, use workbench tui --once")

    show(chosen.path.parent if chosen else runs, chosen, study)


def _find(runs: Path, name: str) -> tuple[RunDirectory | None, str]:
    """The run with this name or path, else the name of a study with runs."""
    try:
        return find_run(runs, name), ""
    except ValueError:
        studies = studies_with_runs(runs)
        if name in studies:
            return None, name
        if studies:
            raise unknown("run or study", name, [*(run.id for run in list_runs(runs)), *studies]) from None
        raise


def print_once(runs: Path, only: str | None, json: bool, study: str = "") -> None:
    """Print the dashboard's table of runs."""
    board, memory = Board(runs), Preferences()
    while board.poll(ONCE_S):  # True while logs are left to read
        pass
    if board.problem:
        raise ValueError(board.problem)
    rows = [row for row in ordered(board, memory, Query(), headline(board, memory)) if only in (None, row.run.id)]
    rows = [row for row in rows if not study or (row.origin and row.origin.study == study)]
    if json:
        print_json({"runs": [_document(row) for row in rows]})
        return
    if not rows:
        print_line(f"{runs} holds no runs yet; start one with: workbench train --recipe clip-kd")
        return
    label = metric_label(headline(board, memory))
    print_rows(["run", "state", "done", "left", label.title, "loss"], _lines(board, memory, rows), num_words=2)
    for row in rows:
        if row.problem:
            print_line(f"{visible(row.run.id)}: {indented(row.problem)}")


def _lines(board: Board, memory: Any, rows: list[Row]) -> list[list[str]]:
    metric = headline(board, memory)
    scale = spark_scale(board, metric)
    shown = [run_cells(row, metric, scale) for row in rows]
    for row, one in zip(rows, shown, strict=True):
        if row.problem:  # printed in full below the table
            one["state"] = Cell(row.state or "unreadable")
    return [[one[key].text.strip() for key in ("name", "state", "progress", "left", "metric", "loss")] for one in shown]


def _document(row: Row) -> dict[str, Any]:
    status = row.status
    return {
        "id": row.run.id,
        "dir": str(row.run.path),
        "state": status.state if status else "unreadable",
        "step": status.step if status else None,
        "num_steps": status.num_steps if status else None,
        "quiet_s": status.quiet_s if status else None,
        "left_s": row.left_s,
        "loss": row.loss,
        "metrics": {name: trace.last for name, trace in row.metrics.items()},
        "study": row.origin.study if row.origin else None,
        "problem": row.problem,
    }


def notebook(
    copy: Annotated[
        Path, typer.Option("--copy", metavar="DIR", help="Folder for your copies of the notebooks.")
    ] = Path("notebooks"),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or only print the address (over ssh).")
    ] = True,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
) -> None:
    """Open JupyterLab on the bundled notebooks.

    They run on recorded results, or on your own run if you change their line
    RUN = "...". Notebooks that exist in the folder are kept; delete one to get
    the original again.

    Examples:

        workbench notebook
        workbench notebook --copy ~/clip/notebooks --no-browser
    """
    check_jupyterlab()
    folder = copy.expanduser()
    new = copy_notebooks(folder)
    num_kept = len(bundled_notebooks()) - len(new)
    kept = f", {num_kept} existing ones kept" if num_kept else ""
    print_line(f"{folder}: {len(new)} notebooks copied{kept}")
    free_port()  # fails before JupyterLab starts if all ports are taken
    start(folder, runs, browser=browser)
