"""Options that several commands share, and checks of the paths given with ``--out`` and ``--figure``."""

import math
import os
import shlex
from collections.abc import Container
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_recipe, complete_run, complete_setting
from workbench.config.trust import RULE, trust_everything
from workbench.documents import read_part
from workbench.files import explained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _trust(is_given: bool) -> bool:
    if is_given:
        trust_everything()
    return is_given


def finite_option(value: float | None) -> float | None:
    """Callback of number options: nan passes Typer's min and max checks.

    Raises:
        BadParameter: the value is not finite.
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
    typer.Option("--steps", help="Training steps. Schedules and intervals not given with --set scale with it."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the initial weights, the data order and the crops.")]
Name = Annotated[str | None, typer.Option("--name", metavar="ID", help="The run's id; generated if not given.")]
RunsDir = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
SkipBadShards = Annotated[
    bool, typer.Option("--skip-bad-shards", help="Skip missing or truncated shards, as data.bad_shards=skip does.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or directory.", autocompletion=complete_run)]
# A command declares it as `_trust: Trust = False`: its callback takes effect when it is parsed.
Trust = Annotated[
    bool,
    typer.Option("--trust", callback=_trust, help=f"Allow Python files of losses anywhere; by default, only {RULE}."),
]
NoTest = Annotated[
    bool, typer.Option("--no-test", help="Skip the evaluation on test pairs at the end; same as --set data.test=")
]
DEFAULT_RUNS = Path("runs")


def without_test(overrides: list[str] | None, no_test: bool) -> list[str] | None:
    """The settings of ``--set``, with that of ``--no-test``.

    Raises:
        ValueError: ``--set`` names test pairs.
    """
    if not no_test:
        return overrides
    named = [override for override in overrides or [] if override.startswith("data.test=") and override != "data.test="]
    if named:
        raise ValueError(f"--no-test and --set {named[-1]} contradict each other: drop one")
    return [*(overrides or []), "data.test="]


def write_figure(figure: "Figure", file: Path) -> None:
    """Write ``figure`` to the path of ``--figure``.

    Raises:
        ValueError: the file cannot be written, or its suffix is unknown.
    """
    from workbench.figures.style import save_figure

    with writing(file, "--figure FILE"):
        save_figure(figure, file)


OUT_DIR, OUT_FILE = "--out DIR", "--out FILE"
MADE_BY = "# Made by:"  # the first words of a recipe that a command has written
RECORDS = ("metrics.json", "run.toml", "log.jsonl", "teacher.json")  # of a teacher, next to its model
ONNX = ("image.onnx", "text.onnx", "config.json", "tokenizer.json")


def check_free(out: Path, option: str = OUT_DIR) -> None:
    """Refuse an output path that cannot be written, before minutes of work. Imports no torch.

    Raises:
        ValueError: the path exists (with its state and a remedy), or cannot be created.
    """
    # An empty folder is fine: new_folder replaces it.
    if option == OUT_DIR and out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise ValueError(f"{out} exists already{_state(out, option)} name another with {option}")
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"cannot write {out}: {nearest} is not a writable folder; name another with {option}")


def writing(out: Path, option: str = OUT_DIR) -> AbstractContextManager[None]:
    """``with writing(out)``: an OSError becomes a one-line ValueError with ``out`` and the option."""
    return explained(out, f"name another with {option}")


def _state(out: Path, option: str) -> str:
    """What exists at the path, whether it is complete, and the remedy."""
    use, fault = _examined(out, option)
    if fault:
        removed = shlex.join(["rm", *(["-r"] if out.is_dir() else []), str(out)])
        return f", but is incomplete ({fault}): remove it ({removed}), or"
    if use:
        return f", and is complete: {use}, or"
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    return f" and holds {names[0]}:" if names else ":"


def _examined(out: Path, option: str) -> tuple[str, str | None]:
    """How to use the output of an earlier command, and its first fault; empty for anything else.

    A fault leads to a command that removes the path, so only what these commands write has one.
    """
    from workbench.data.samples.write import CHECKSUMS, INDEX, fault_of_samples
    from workbench.models.names import CONFIG, WEIGHTS, fault_of_folder
    from workbench.models.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG

    def has(*files: str) -> bool:
        return any((out / file).is_file() for file in files)

    def found(use: str, fault: str | None, files: Container[str]) -> tuple[str, str | None]:
        is_ours = all(path.name in files for path in out.iterdir())
        return ("", None) if fault and not is_ours else (use, fault)

    name, model = shlex.quote(str(out)), (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, *RECORDS)
    if option == OUT_FILE:
        return (
            (f"train with it (workbench train --recipe {name})", _fault_of_recipe(out))
            if _is_made_here(out)
            else ("", None)
        )
    if has(CONFIG, WEIGHTS):
        return found(f"evaluate it (workbench evaluate {name} --data SPEC)", fault_of_folder(out), model)
    if has(*ONNX[:2]):
        missing = [f"{file} is missing" for file in ONNX if not has(file)]
        return found(f"see {name}/config.json for its use", next(iter(missing), None), ONNX)
    if has(CHECKSUMS, INDEX):
        return found(f"check it (workbench data check {name})", fault_of_samples(out), ())
    return "", None


def _is_made_here(recipe: Path) -> bool:
    with suppress(OSError, ValueError):  # of a folder, or of anything that cannot be read
        return read_part(recipe, 0, len(MADE_BY)) == MADE_BY.encode()
    return False


def _fault_of_recipe(file: Path) -> str | None:
    from workbench.config.toml import load_recipe

    try:
        load_recipe(str(file))
    except ValueError as error:
        return str(error)
    return None
