"""``workbench runs compare``: settings and metrics of several runs, with differences to the first."""

import string
from itertools import groupby
from typing import Annotated, Any

import typer

from workbench.cli.completion import complete_run
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir
from workbench.cli.output import console, indented, print_json, print_line, print_rows
from workbench.config.toml import read_toml
from workbench.errors import visible
from workbench.events import EvalDone
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import run_status
from workbench.runs.log import forked_from, read_history
from workbench.runs.suites import read_results
from workbench.views.comparison import (
    NOTHING,
    ComparedRun,
    Comparison,
    Evaluated,
    MetricRow,
    SplitRows,
    compare_runs,
    setting_text,
)
from workbench.views.suite import flattened

MOST_COLUMNS = 3  # runs that fit next to each other in 80 columns; more become rows

Column = tuple[str, list[str]]  # a heading, and one cell per run


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="Run ids or directories.", autocompletion=complete_run)
    ],
    every: Annotated[bool, typer.Option("--all", help="List all settings, those that differ first.")] = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Compare settings and metrics of runs; differences are to the first.

    Examples:

        workbench runs compare baseline-s0-1122-1405 clip-kd-s0-1122-1405
        workbench runs compare one two three four --json
    """
    # A damaged run must not keep the others from being compared.
    directories, compared, unreadable = [], [], {}
    for directory in [find_run(runs, name) for name in names]:
        try:
            compared.append(_compared(directory))
            directories.append(directory)
        except ValueError as error:
            unreadable[directory.id] = str(error)
    if unreadable and len(compared) < 2:
        raise ValueError(f"fewer than two of these runs can be read: {'; '.join(unreadable.values())}")
    comparison = compare_runs(compared)
    if json:
        about = [_about(directory) for directory in directories]
        print_json({"runs": about, "unreadable": unreadable} | comparison.to_json(every_setting=every))
        return
    for run_id, reason in unreadable.items():
        print_line(f"{run_id} is left out: {indented(reason)}")
    letters = [_letter(number) for number in range(len(directories))]
    _print_runs(letters, directories)
    _print_settings(letters, comparison, every)
    for split in comparison.splits:
        _print_metrics(letters, split)
    if comparison.splits:
        _print_caution(comparison)


def _compared(directory: RunDirectory) -> ComparedRun:
    last = {event.split: event for event in read_history(directory, (EvalDone,)).events if isinstance(event, EvalDone)}
    evaluations = {
        split: Evaluated(event.step, event.num_pairs, event.metrics, event.errors) for split, event in last.items()
    }
    for suite, results in groupby(read_results(directory.suites), key=lambda result: result.suite):
        measured = list(results)
        num_images = sum(result.num_images for result in measured)
        evaluations[suite] = Evaluated(measured[-1].step or 0, num_images, *flattened(measured))
    return ComparedRun(directory.id, read_toml(directory.config_file), evaluations)


def _about(directory: RunDirectory) -> dict[str, Any]:
    status, forked = run_status(directory), forked_from(directory)
    origin = {"parent": forked.parent, "step": forked.parent_step} if forked else None
    return {
        "id": directory.id,
        "dir": str(directory.path),
        "state": status.state,
        "step": status.step,
        "num_steps": status.num_steps,
        "forked_from": origin,
    }


def _letter(number: int) -> str:
    """A, B, ... Z, A2, B2, ..."""
    turn, index = divmod(number, len(string.ascii_uppercase))
    return string.ascii_uppercase[index] + (str(turn + 1) if turn else "")


def _print_runs(letters: list[str], directories: list[RunDirectory]) -> None:
    for letter, directory in zip(letters, directories, strict=True):
        about = _about(directory)
        origin = about["forked_from"]
        tail = f", forked from {visible(origin['parent'])} at step {origin['step']}" if origin else ""
        print_line(f"{letter}  {about['id']}: {about['state']} at step {about['step']} of {about['num_steps']}{tail}")


def _print_settings(letters: list[str], comparison: Comparison, every: bool) -> None:
    shared = [setting for setting in comparison.settings if not setting.differs]
    shown = [("differ", comparison.differing), *([("are the same", shared)] if every else [])]
    for kind, settings in shown:
        if settings:
            columns = [
                (visible(setting.name), [setting_text(value) for value in setting.values]) for setting in settings
            ]
            _print_columns(letters, columns, f"settings that {kind}")
    if not comparison.differing:
        print_line("\nno setting differs")


def _print_metrics(letters: list[str], split: SplitRows) -> None:
    """Print each run's value and its difference to the first run: as a column for two runs, else below the value."""
    steps = sorted({step for step in split.steps if step is not None})
    every = ", ".join(NOTHING if step is None else str(step) for step in split.steps)
    when = f"step {steps[0]}" if len(steps) == 1 else f"steps {every}"
    title = f"{visible(split.split)} at {when}"
    cells = [(row.metric.title, *_cells(row)) for row in split.rows]
    if len(letters) == 2:
        print_line("")
        print_rows([title, *letters, "B \N{MINUS SIGN} A"], [[name, *own, other[1]] for name, own, other in cells])
        return
    # The first run has no difference to itself, so its cell has one line.
    columns = [
        (name, [own[0], *("\n".join(both) for both in zip(own[1:], differences[1:], strict=True))])
        for name, own, differences in cells
    ]
    _print_columns(letters, columns, title)


def _cells(row: MetricRow) -> tuple[list[str], list[str]]:
    """Each run's value, and its difference to the first run's."""
    return (
        [_number(row, value, error) for value, error in zip(row.values, row.errors, strict=True)],
        [
            _number(row, value, error, signed=True)
            for value, error in zip(row.differences, row.difference_errors, strict=True)
        ],
    )


def _number(row: MetricRow, value: float | None, error: float | None, *, signed: bool = False) -> str:
    text = row.metric.number(value, signed=signed)
    return text if value is None or error is None else f"{text} ± {row.metric.number(error)}"


def _print_columns(letters: list[str], columns: list[Column], title: str) -> None:
    """Print a column per run, or for many runs a row per run, in as many tables as the width needs."""
    print_line("")
    if len(letters) <= MOST_COLUMNS:
        print_rows([title, *letters], [[heading, *cells] for heading, cells in columns], lines=True)
        return
    print_line(title)
    for number, piece in enumerate(_pieces(columns, console.width - max(map(len, letters)))):
        if number:
            print_line("")
        rows = [[letter, *(cells[run] for _, cells in piece)] for run, letter in enumerate(letters)]
        print_rows(["", *(heading for heading, _ in piece)], rows, lines=True)


def _pieces(columns: list[Column], width: int) -> list[list[Column]]:
    """The columns split into tables of at most this width, with gaps; headings may break between words."""
    pieces: list[list[Column]] = [[]]
    room = width
    for heading, cells in columns:
        lines = [line for cell in cells for line in cell.splitlines()]
        needed = 2 + max(map(len, [*heading.split(), *lines]), default=0)
        if pieces[-1] and needed > room:
            pieces.append([])
            room = width
        pieces[-1].append((heading, cells))
        room -= needed
    return pieces


def _print_caution(comparison: Comparison) -> None:
    if any(not split.same_pairs for split in comparison.splits):
        print_line("\nnot all runs were evaluated on the same pairs, which also affects the differences")
    print_line(
        "\n± one standard error over pairs; that of a difference assumes independent\n"
        "measurements, so on shared pairs it is usually too large. Neither covers\n"
        "the variance between seeds."
    )
