"""``workbench``: all commands, and errors as one line on stderr."""

import os
import sys
import warnings
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from workbench.cli.completion import complete
from workbench.errors import lossy_stderr, print_error, visible
from workbench.files import FULL, DiskFullError, write_failure

# By panel of the help: each command, where it is defined, and its summary.
PANELS = {
    "Start here": {
        "demo": ("demo:demo", "Distill a small CLIP and compare it with one trained without a teacher."),
        "recipes": ("catalogue:recipes", "List all recipes: steps, batch size, and the question each answers."),
        "losses": (
            "catalogue:losses",
            "List all losses: equation, settings, published weight, and that weight at your batch size and width.",
        ),
    },
    "Train and evaluate": {
        "train": ("train:train", "Train one student with the losses of a recipe."),
        "evaluate": ("evaluate:evaluate", "Evaluate a model: retrieval, zero-shot, and agreement with its teacher."),
        "dense": (
            "dense:dense",
            "Measure a frozen image tower by detection and segmentation: Mask R-CNN's heads and COCO's AP.",
        ),
        "calibrate": (
            "preflight:calibrate",
            "Choose loss weights by their share of the gradient, and write them as a recipe.",
        ),
        "runs": ("runs:app", "See, compare, stop, resume and fork runs."),
        "tui": (
            "dashboard:tui",
            "Open the dashboard: watch, understand and control runs. Quitting does not affect runs.",
        ),
        "notebook": ("dashboard:notebook", "Open JupyterLab on the bundled notebooks."),
    },
    "Studies": {
        "studies": (
            "catalogue:studies",
            "List all studies: the question, the number of runs, and the answer if it has been run.",
        ),
        "sweep": ("sweep:sweep", "Run a study: every cell at several seeds, as a table with intervals."),
        "report": ("report:report", "Report a study's results: tables with intervals, next to the paper's numbers."),
    },
    "Models": {
        "inspect": (
            "inspect:inspect",
            "Show what a model is: architecture, parameters by tower, and the heads and FFN channels of each layer.",
        ),
        "teacher": ("teacher:app", "Train, import and cache teachers."),
        "inherit": (
            "inherit:inherit",
            "Make a smaller model from a teacher's layers, heads and channels (TinyCLIP's weight inheritance).",
        ),
        "export": ("export:export", "Write a trained model for use elsewhere, without its training state."),
    },
    "Data": {"data": ("data:app", "Make, inspect and prepare data.")},
    "This machine": {
        "doctor": ("preflight:doctor", "Check this machine, and find problems of a run before training it."),
        "bench": ("bench:app", "Measure speed and memory."),
    },
}


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is used; --help needs none of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and loaded(name), rest


def loaded(name: str | None) -> Any:
    """The command of this name, as an object of click."""
    (target,) = (commands[name][0] for commands in PANELS.values() if name in commands)
    module, _, attribute = target.partition(":")
    found = getattr(import_module(f"workbench.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return get_group(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return get_command(alone)


app = typer.Typer(
    name="workbench",
    cls=LazyGroup,
    help="Small-scale CLIP distillation: train, compare and understand, on a laptop or a GPU.",
    epilog="Start with: workbench demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"workbench {version_of('clip-distillation-workbench')}")
        raise typer.Exit


@app.callback()
def workbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # No docstring: Typer would show it instead of the app's help text.
    del version


def _listed() -> None:
    """Stands for a command in the list of ``workbench --help``."""


for panel, commands in PANELS.items():
    for name, (_, summary) in commands.items():
        app.command(name, help=summary, rich_help_panel=panel)(_listed)


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
        if os.environ.get("WORKBENCH_DEBUG") or (error.filename is None and error.errno not in FULL):
            raise
        sys.exit(_report_full(error) if error.errno in FULL else _report_path(error))


def _report_path(error: OSError) -> int:
    reason = (error.strerror or str(error)).lower()
    print_error(f"workbench: {error.filename}: {reason}; choose another path, or fix this one")
    return 2


def _report_full(error: OSError) -> int:
    """Report a full disk, of a file or of the redirected output; returns the exit status."""
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
