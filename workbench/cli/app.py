"""``workbench``: all commands, and errors as one line on stderr."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workbench.cli import (
    bench,
    calibrate,
    catalogue,
    dashboard,
    data,
    demo,
    doctor,
    evaluate,
    export,
    inherit,
    report,
    runs,
    sweep,
    teacher,
    train,
)
from workbench.cli.completion import complete
from workbench.errors import lossy_stderr, print_error, visible

PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Start here": {"demo": demo.demo, "recipes": catalogue.recipes, "losses": catalogue.losses},
    "Train and evaluate": {
        "train": train.train,
        "evaluate": evaluate.evaluate,
        "calibrate": calibrate.calibrate,
        "runs": runs.app,
        "tui": dashboard.tui,
        "notebook": dashboard.notebook,
    },
    "Studies": {"studies": catalogue.studies, "sweep": sweep.sweep, "report": report.report},
    "Models": {"teacher": teacher.app, "inherit": inherit.inherit, "export": export.export},
    "Data": {"data": data.app},
    "This machine": {"doctor": doctor.doctor, "bench": bench.app},
}


class PanelOrder(TyperGroup):
    """Lists commands in the order of their panels; by default Typer puts groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [name for commands in PANELS.values() for name in commands]


app = typer.Typer(
    name="workbench",
    cls=PanelOrder,
    help="Small-scale CLIP distillation: train, compare and understand, on a laptop or a GPU.",
    epilog="Start with: workbench demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"workbench {version('clip-distillation-workbench')}")
        raise typer.Exit


@app.callback()
def workbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # No docstring: Typer would show it instead of the app's help text.
    del version


for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


def main() -> None:
    """Run a command. An error that the user can fix is one line on stderr and exit status 2."""
    warnings.formatwarning = _one_line
    with lossy_stderr():
        _run()


def _run() -> None:
    try:
        if request := os.environ.get("_WORKBENCH_COMPLETE"):
            complete(app, request)
        else:
            try:
                app()
            finally:
                sys.stdout.flush()
    except ValueError as error:
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        print_error(f"workbench: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        from workbench.files import FULL

        if os.environ.get("WORKBENCH_DEBUG") or (error.filename is None and error.errno not in FULL):
            raise
        sys.exit(_report_full(error) if error.errno in FULL else _report_path(error))


def _report_path(error: OSError) -> int:
    reason = (error.strerror or str(error)).lower()
    print_error(f"workbench: {error.filename}: {reason}; choose another path, or fix this one")
    return 2


def _report_full(error: OSError) -> int:
    """Report a full disk, of a file or of the redirected output; returns the exit status."""
    from workbench.files import DiskFullError, write_failure

    places = "choose another disk with --out, --runs or WORKBENCH_CACHE"
    if error.filename is None and not isinstance(error, DiskFullError):  # in most cases stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails again
        places = "send the output to another disk"
    print_error(f"workbench: {write_failure(error)}; make room there, or {places}")
    return 2 if isinstance(error, DiskFullError) else 1


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as one line, without its source code line."""
    del category, filename, lineno, line
    return visible(f"workbench: warning: {message}\n", lines=True)


if __name__ == "__main__":
    main()
