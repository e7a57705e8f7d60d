"""``workbench runs export`` and ``--log-to``: a run in TensorBoard, Weights & Biases or trackio."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from workbench.adapters.export import TOOLS, check_tool, export_command, open_sink, start_export
from workbench.adapters.export import export as copy
from workbench.cli.completion import complete_tool
from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir
from workbench.cli.output import errors, print_json, print_line
from workbench.errors import print_error, reason
from workbench.runs.directory import RunDirectory, find_run

OUTCOME_WAIT_S = 10.0
NICENESS = 10

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        metavar="TOOL",
        help="Also log to tensorboard, wandb or trackio, from a separate process. Repeatable.",
        autocompletion=complete_tool,
    ),
]


def check_tools(tools: list[str] | None) -> None:
    """Refuse a tool that is unknown or not installed, before training starts."""
    for tool in tools or []:
        check_tool(tool)


def export(
    run: Run,
    tool: Annotated[
        str, typer.Option("--to", metavar="TOOL", help="tensorboard, wandb or trackio.", autocompletion=complete_tool)
    ],
    follow: Annotated[bool, typer.Option("--follow", help="Follow the run until it ends.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write to DIR/TOOL.", show_default="the run's folder's parent"),
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Export a run's log to TensorBoard, Weights & Biases (offline) or trackio.

    Includes config, losses, weighted losses, scales, learning rate, speed and metrics; replaces an earlier export.

    To log while training: workbench train --log-to tensorboard

    Examples:

        workbench runs export clip-kd-s0-1122-1405 --to tensorboard

        workbench runs export clip-kd-s0-1122-1405 --to wandb --follow
    """
    directory = find_run(runs, run)
    check_tool(tool)
    if follow:
        os.nice(NICENESS)  # training has priority
        if errors.is_terminal:
            errors.print(f"following {directory.id} until it ends; Ctrl-C stops the export, not the run", markup=False)
    folder = out or directory.path.parent
    try:
        exported = copy(directory, lambda: open_sink(tool, directory, folder), follows=follow)
    except Exception as error:  # a third-party tool may raise anything
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        again = f"retry with: {export_command(directory, tool)} [--out DIR]"
        print_error(f"workbench: {_failure(tool, error)}; the run is not affected; {again}")
        raise typer.Exit(1) from None
    if json:
        print_json({"id": directory.id, "to": tool, **exported._asdict()})
        return
    print_line(f"{directory.id} is in {TOOLS[tool]} up to step {exported.step}; {exported.next}")


def _failure(tool: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{tool} failed: {error.strerror}" + (f": {error.filename}" if error.filename else "")
    return f"{tool} failed: {reason(error)}"


@contextmanager
def logging_to(directory: RunDirectory, tools: list[str] | None) -> Iterator[None]:
    """While the run trains, export processes follow it; their results are printed to stderr at the end."""
    copies = []
    for tool in dict.fromkeys(tools or []):
        try:
            copies.append(start_export(directory, tool))
        except (ValueError, OSError) as error:
            print_error(f"workbench: warning: {error}; the run continues without {tool}")
    code = None
    try:
        yield
    except typer.Exit as exit_:
        code = exit_
    for process in copies:
        print_error(process.outcome(OUTCOME_WAIT_S))
    if code:
        raise code
