"""``workbench runs export`` and ``--log-to``: a run in TensorBoard, Weights & Biases or trackio."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_tool
from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir
from workbench.terminal import print_error

if TYPE_CHECKING:
    from workbench.runs.directory import RunDirectory


LAST_WORDS_WAIT_S = 10.0
NICENESS = 10

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        metavar="TOOL",
        help="Also write to tensorboard, wandb or trackio, from a process of its own. Repeatable.",
        autocompletion=complete_tool,
    ),
]


def check_tools(tools: list[str] | None) -> None:
    """Refuse, before anything begins, a tool that is unknown or not installed."""
    from workbench.adapters.export import check_tool

    for tool in tools or []:
        check_tool(tool)


def export(
    run: Run,
    tool: Annotated[
        str, typer.Option("--to", metavar="TOOL", help="tensorboard, wandb or trackio.", autocompletion=complete_tool)
    ],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run ends.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write to DIR/TOOL.", show_default="the run's folder's parent"),
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Copy a run into TensorBoard, Weights & Biases (offline) or trackio.

    With its config, losses, weighted terms, scales, learning rate, speed and metrics. An earlier copy is replaced.

    While training: workbench train --log-to tensorboard

    Examples:

        workbench runs export clip-kd-s0-1122-1405 --to tensorboard

        workbench runs export clip-kd-s0-1122-1405 --to wandb --follow
    """
    from workbench.adapters.export import TOOLS, check_tool, export_command, open_sink
    from workbench.adapters.export import export as copy
    from workbench.cli.output import errors, print_json, print_line
    from workbench.runs.directory import find_run

    directory = find_run(runs, run)
    check_tool(tool)
    if follow:
        os.nice(NICENESS)  # the run comes first
        if errors.is_terminal:
            errors.print(f"following {directory.id} until it ends; Ctrl-C ends this, not the run", markup=False)
    folder = out or directory.path.parent
    try:
        exported = copy(directory, lambda: open_sink(tool, directory, folder), follows=follow)
    except Exception as error:  # of a tool that is not ours, any at all
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        again = f"once more with: {export_command(directory, tool)} [--out DIR]"
        print_error(f"workbench: {_failure(tool, error)}; the run is untouched; {again}")
        raise typer.Exit(1) from None
    if json:
        print_json({"id": directory.id, "to": tool, **exported._asdict()})
        return
    print_line(f"{directory.id} is in {TOOLS[tool]} up to step {exported.step}; {exported.next}")


def _failure(tool: str, error: Exception) -> str:
    from workbench.errors import reason

    if isinstance(error, OSError) and error.strerror:
        return f"{tool} failed: {error.strerror}" + (f": {error.filename}" if error.filename else "")
    return f"{tool} failed: {reason(error)}"


@contextmanager
def logging_to(directory: "RunDirectory", tools: list[str] | None) -> Iterator[None]:
    """While the run trains, copies of it are kept up; what became of them is said on stderr once it is over."""
    from workbench.adapters.export import start_export

    copies = []
    for tool in dict.fromkeys(tools or []):
        try:
            copies.append(start_export(directory, tool))
        except (ValueError, OSError) as error:
            print_error(f"workbench: warning: {error}; the run goes on without {tool}")
    code = None
    try:
        yield
    except typer.Exit as exit_:
        code = exit_
    for copy in copies:
        print_error(copy.outcome(LAST_WORDS_WAIT_S))
    if code:
        raise code
