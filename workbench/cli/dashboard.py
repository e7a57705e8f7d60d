"""``workbench notebook``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_run_or_study
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, Trust

if TYPE_CHECKING:
    from workbench.runs.directory import RunDirectory
    from workbench.tui.home.board import Board, Row


# ``workbench tui``.

ONCE_S = 3600.0  # every log is read to its end: a summary for a report is whole


def tui(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|STUDY]",
            help="A run's id or directory, or a study that has runs, opened at once.",
            autocompletion=complete_run_or_study,
        ),
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    once: Annotated[bool, typer.Option("--once", help="Print how the runs stand, once, and return.")] = False,
    json: Json = False,
) -> None:
    """Watch, understand and steer runs, live and old. Quitting never touches a run.

    Press ? for every key.

    Examples:

        workbench tui

        workbench tui clip-kd-s0-1122-1405

        workbench tui icl_weight

        workbench tui --once >> status.log
    """
    if json and not once:
        raise ValueError("--json prints a document and returns: add --once")
    chosen, study = _find(runs, run) if run else (None, "")
    if once:
        print_once(runs, chosen.id if chosen else None, json, study)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("the dashboard needs a terminal: for logs and pipes, workbench tui --once")
    from workbench.tui.app import show

    show(chosen.path.parent if chosen else runs, chosen, study)


def _find(runs: Path, name: str) -> "tuple[RunDirectory | None, str]":
    """The run of this name or path, else the study of this name that has runs."""
    from workbench.errors import unknown
    from workbench.runs.directory import find_run, list_runs
    from workbench.runs.summary import studies_with_runs

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
    """The board as it is now."""
    from workbench.cli.output import indented, print_json, print_line, print_rows
    from workbench.terminal import visible
    from workbench.tui.home.board import Board
    from workbench.tui.home.table import headline, ordered
    from workbench.tui.preferences import Preferences
    from workbench.views.metrics import metric_label

    board, memory = Board(runs), Preferences()
    while board.poll(ONCE_S):
        pass
    if board.problem:
        raise ValueError(board.problem)
    rows = [row for row in ordered(board, memory) if only in (None, row.run.id)]
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


def _lines(board: "Board", memory: Any, rows: "list[Row]") -> list[list[str]]:
    from workbench.tui.home.table import cell_texts, headline

    metric = headline(board, memory)
    shown = [cell_texts(row, metric) for row in rows]
    for row, one in zip(rows, shown, strict=True):
        if row.problem:  # which is told beneath the table
            one["state"] = ("unreadable" if row.status is None else row.status.state, "")
    return [[one[key][0].strip() for key in ("name", "state", "progress", "left", "metric", "loss")] for one in shown]


def _document(row: "Row") -> dict[str, Any]:
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
        Path, typer.Option("--copy", metavar="DIR", help="Where your copies of the notebooks are, or are put.")
    ] = Path("notebooks"),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open one, or only say the address, as over ssh.")
    ] = True,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
) -> None:
    """See why a distillation works: JupyterLab on the bundled notebooks.

    They run on recorded results as they are, and on a run of yours by changing
    their line RUN = "...". A notebook that is in the folder already is never
    touched; remove it to get it as it was.

    Examples:

        workbench notebook

        workbench notebook --copy ~/clip/notebooks --no-browser
    """
    from workbench.cli.output import print_line
    from workbench.notebook.launch import bundled_notebooks, check_jupyterlab, copy_notebooks, free_port, start

    check_jupyterlab()
    folder = copy.expanduser()
    new = copy_notebooks(folder)
    num_kept = len(bundled_notebooks()) - len(new)
    kept = f", {num_kept} left as they were" if num_kept else ""
    print_line(f"{folder}: {len(new)} notebooks put there{kept}")
    free_port()
    start(folder, runs, browser=browser)
