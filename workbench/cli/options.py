"""What ``--out`` names: free, or what is there already and whether it is whole."""

import math
import os
import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_recipe, complete_run, complete_setting
from workbench.config.trust import RULE, trust_everything

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


# Options that several commands share.


def _trust(is_given: bool) -> bool:
    if is_given:
        trust_everything()
    return is_given


def finite_option(value: float | None) -> float | None:
    """A callback for options that are numbers: nan passes every other check.

    Raises:
        BadParameter: it is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"must be a finite number (got {value})")
    return value


RECIPE_HELP = "A recipe's name (see `workbench recipes`) or a TOML file."
Recipe = Annotated[str, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. loss.icl.weight=2. Repeatable.",
        autocompletion=complete_setting,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="Number of steps; phases and cadences that --set does not name scale in proportion."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the weights, the order and the crops.")]
Name = Annotated[str | None, typer.Option("--name", metavar="ID", help="The run's id; made up if not given.")]
RunsDir = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on stdout.")]
SkipBadShards = Annotated[
    bool,
    typer.Option("--skip-bad-shards", help="Leave out shards that are missing or torn, as data.bad_shards=skip does."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or directory.", autocompletion=complete_run)]
# A command declares it as `_trust: Trust = False`: parsing it is what takes effect.
Trust = Annotated[
    bool,
    typer.Option("--trust", callback=_trust, help=f"Run a loss's Python file wherever it is; without it, only {RULE}."),
]
NoTest = Annotated[
    bool, typer.Option("--no-test", help="Do not measure the test pairs at the end; the same as --set data.test=")
]
DEFAULT_RUNS = Path("runs")


def without_test(overrides: list[str] | None, no_test: bool) -> list[str] | None:
    """The settings of ``--set``, with what ``--no-test`` adds.

    Raises:
        ValueError: test pairs are named all the same.
    """
    if not no_test:
        return overrides
    named = [override for override in overrides or [] if override.startswith("data.test=") and override != "data.test="]
    if named:
        raise ValueError(f"--no-test and --set {named[-1]} contradict each other: leave one out")
    return [*(overrides or []), "data.test="]


# Figures that a command is told to write.


def write_figure(figure: "Figure", file: "Path") -> None:
    """Write ``figure`` where ``--figure`` says.

    Raises:
        ValueError: it cannot be written there, or has no known format.
    """
    from workbench.figures.style import save_figure
    from workbench.files import explained

    with explained(file, "name another with --figure FILE"):
        save_figure(figure, file)


OUT_DIR, OUT_FILE = "--out DIR", "--out FILE"
ONNX = ("image.onnx", "text.onnx", "config.json", "tokenizer.json")


def check_free(out: Path, option: str = OUT_DIR) -> None:
    """Refuse at once what could not be written after minutes of work. Imports no torch.

    Raises:
        ValueError: there is something already, with whether it is whole and what to do; or it cannot be made.
    """
    if option == OUT_DIR and out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise ValueError(f"{out} exists already{_state(out)} name another with {option}")
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"cannot write {out}: {there} is no folder to write in; name another with {option}")


def writing(out: Path, option: str = OUT_DIR) -> AbstractContextManager[None]:
    """``with writing(out)``: an OSError is a ValueError of one line that names ``out`` and the option."""
    from workbench.files import explained

    return explained(out, f"name another with {option}")


def _state(out: Path) -> str:
    """What is there, whether it is whole, and what to do."""
    use, fault = _examined(out)
    if fault:
        removed = shlex.join(["rm", *(["-r"] if out.is_dir() else []), str(out)])
        return f", but is incomplete ({fault}): remove it ({removed}), or"
    if use:
        return f", and is whole: {use}, or"
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    return f" and holds {names[0]}:" if names else ":"


def _examined(out: Path) -> tuple[str, str | None]:
    """How to use what a command has written there, and what is missing of it; empty of anything else."""
    from workbench.data.samples.write import CHECKSUMS, INDEX, fault_of_samples
    from workbench.models.names import CONFIG, WEIGHTS, fault_of_folder

    def has(*files: str) -> bool:
        return any((out / file).is_file() for file in files)

    name = shlex.quote(str(out))
    if out.is_file():
        return f"train with it (workbench train --recipe {name})", _fault_of_recipe(out)
    if has(CONFIG, WEIGHTS):
        return f"measure it (workbench evaluate {name} --data SPEC)", fault_of_folder(out)
    if has(*ONNX[:2]):
        missing = [f"{file} is missing" for file in ONNX if not has(file)]
        return f"use it as {name}/config.json says", next(iter(missing), None)
    if has(CHECKSUMS, INDEX):
        return f"look at it (workbench data check {name})", fault_of_samples(out)
    return "", None


def _fault_of_recipe(file: Path) -> str | None:
    from workbench.config.toml import load_recipe

    try:
        load_recipe(str(file))
    except ValueError as error:
        return str(error)
    return None
