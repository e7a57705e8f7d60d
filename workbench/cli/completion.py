"""Tab completion. It must be fast, so nothing here may import torch."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

Candidates = list[tuple[str, str]]

PROGRAM = "workbench"
SPLITTERS = re.compile("[:=@]+")  # readline splits words at these
PLAIN = re.compile(r"[\w./:@,+\[\]-]*")  # needs no quotes in a shell


def complete_recipe() -> Candidates:
    from workbench.config.toml import recipes

    return [(name, _quotable(_table(str(path)).get("question", ""))) for name, path in recipes().items()]


def complete_study(context: typer.Context) -> Candidates:
    from workbench.runs.studies import copy_of, known_studies, studies

    runs, files = _runs_dir(context), studies()
    return [(name, _quotable(_question(files.get(name, copy_of(name, runs))))) for name in known_studies(runs)]


def complete_report_format() -> list[str]:
    from workbench.results.write import FIGURE_FORMATS, TEXT_FORMATS

    return [*TEXT_FORMATS, *FIGURE_FORMATS]


def _question(path: Path) -> str:
    from workbench.config.toml import read_toml

    try:
        return str(read_toml(path).get("question", ""))
    except ValueError:
        return ""


def complete_run(context: typer.Context) -> list[str]:
    from workbench.runs.directory import list_runs

    runs = list_runs(_runs_dir(context))
    return [run.id for run in runs if run.id.isprintable()]  # a shell would run control characters as keys


def complete_run_or_study(context: typer.Context) -> list[str]:
    from workbench.runs.studies import studies_with_runs

    return complete_run(context) + studies_with_runs(_runs_dir(context))


def _runs_dir(context: typer.Context) -> Path:
    return Path(context.params.get("runs") or "runs")


def complete_tool() -> Candidates:
    from workbench.adapters.export import TOOLS

    return list(TOOLS.items())


def complete_format() -> Candidates:
    from workbench.models.names import FORMATS

    return list(FORMATS.items())


def complete_suite() -> Candidates:
    from workbench.config.suite import load_suite, suites

    found = []
    for name in suites():
        try:
            found.append((name, _quotable(load_suite(name).question)))
        except ValueError:  # completion must not print errors
            continue
    return [*found]


def complete_data() -> list[str]:
    from workbench.data.samples.registry import SAMPLE_SETS

    splits = [f"samples:{name}/{split}" for name, samples in SAMPLE_SETS.items() for split in samples.default_pairs]
    return [*(f"samples:{name}" for name in SAMPLE_SETS), *splits]


def complete_detection_data() -> list[str]:
    from workbench.data.detection.spec import COCO_DETECTION, SCENES_DENSE

    return [SCENES_DENSE, COCO_DETECTION]


def complete_model(context: typer.Context) -> list[str]:
    from workbench.data.samples.registry import SAMPLE_SETS
    from workbench.resources import PACKAGE

    sizes = sorted(path.stem for path in (PACKAGE / "models" / "sizes").glob("*.json"))
    runs = (f"run:{run}" for run in complete_run(context))
    return [*(f"sample:{name}" for name in SAMPLE_SETS), *sizes, *runs]


def complete_source(context: typer.Context) -> list[str]:
    """A run, or a model."""
    return complete_run(context) + complete_model(context)


def complete_setting(context: typer.Context) -> Candidates:
    """``key=value`` of every setting: its choices if there are any, else the recipe's current value."""
    from workbench.config.run import LossConfig, RunConfig
    from workbench.losses.declared import CONVENTIONS

    now = _leaves(_recipe(context))
    losses = sorted({key.split(".")[1] for key in now if key.startswith("loss.")})
    fields = dict(_fields(RunConfig)) | {
        key: field for loss in losses for key, field in _fields(LossConfig, f"loss.{loss}.")
    }
    fields |= {f"loss.{loss}.convention": ([*CONVENTIONS], "paper or released code") for loss in losses}
    listed: dict[str, Callable[[], list[str]]] = {
        "student.model": lambda: complete_model(context),
        "teacher.model": lambda: complete_model(context),
        "data.train": complete_data,
        "data.validation": complete_data,
        "data.test": complete_data,
        "dense.data": complete_detection_data,
        "dense.validation": complete_detection_data,
    }
    candidates = []
    for key in sorted(fields.keys() | now.keys()):
        choices, about = fields.get(key, ([], ""))
        values = listed[key]() if key in listed else choices or [_as_typed(now.get(key, ""))]
        candidates += [(f"{key}={value}", about) for value in values]
    return candidates


def _recipe(context: typer.Context) -> dict[str, Any]:
    """The settings of the chosen recipe, with the losses of all other recipes as defaults."""
    from workbench.config.run import LossConfig, RunConfig
    from workbench.config.toml import load_recipe, merge, recipes

    name = context.params.get("recipe")
    try:
        chosen = load_recipe(name) if isinstance(name, str) else RunConfig()
    except ValueError:
        chosen = RunConfig()
    losses: dict[str, Any] = {}
    for recipe in recipes():  # any loss may be added with --set, not only those of this recipe
        losses = merge(_table(recipe).get("loss", {}), losses)
    known = {loss: LossConfig().model_dump() | _own_settings(loss) | table for loss, table in losses.items()}
    return merge({"loss": known}, chosen.model_dump(mode="json", exclude={"recipe", "question"}))


def _own_settings(loss: str) -> dict[str, Any]:
    """A loss's settings with their defaults, as TOML values; empty for a loss in a user's file."""
    from workbench.losses.declared import declared_losses

    settings = declared_losses()[loss].settings if loss in declared_losses() else {}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _table(recipe: str) -> dict[str, Any]:
    """A recipe's table; empty if it cannot be read, since completion must not print errors."""
    from workbench.config.toml import recipe_table

    try:
        return recipe_table(recipe)
    except ValueError:
        return {}


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, tuple[list[str], str]]]:
    """Every setting by its dotted name: its choices, if there are any, and its description."""
    for name, field in config.model_fields.items():
        kind = field.annotation
        if hasattr(kind, "model_fields"):
            yield from _fields(kind, f"{prefix}{name}.")
        elif get_origin(kind) is not dict and name not in ("recipe", "question"):
            choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
            yield f"{prefix}{name}", (choices, _quotable(field.description or ""))


def _quotable(about: str) -> str:
    """The text on one line, without apostrophes: Typer's zsh script drops them."""
    return " ".join(about.split()).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _as_typed(value: Any) -> str:
    """A value as written after ``=``; empty if it would need quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = re.sub(r"\s", "", str(value)) if isinstance(value, list | tuple) else str(value)
    return text if PLAIN.fullmatch(text) else ""


def complete(app: typer.Typer, request: str) -> None:
    """Print the candidates for a shell; ``request`` is its script's value of $_WORKBENCH_COMPLETE."""
    os.environ["COLUMNS"] = "10000"  # else Typer wraps descriptions, and each line counts as a candidate
    if request == "complete_bash":
        _complete_bash(app)
    else:
        app(prog_name=PROGRAM)


def _complete_bash(app: typer.Typer) -> None:
    """Complete for bash, which passes ``samples:scenes`` as three words and replaces only the last.

    So the words are joined for the app, and the part that bash keeps is cut from its candidates.
    """
    words, cursor = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
    joined, kept = _joined(words[: cursor + 1])
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            app(prog_name=PROGRAM)
    finally:
        sys.stdout.writelines(f"{line[len(kept) :]}\n" for line in printed.getvalue().splitlines())


def _joined(words: list[str]) -> tuple[list[str], str]:
    """The words as typed, and the part of the last one that bash keeps."""
    joined, kept = [""], ""
    for word in words:
        splits, follows = SPLITTERS.fullmatch(word), SPLITTERS.search(joined[-1][-1:])
        if splits and joined[-1]:
            joined[-1] += word
            kept = joined[-1]
        elif follows and word and not word.startswith("-"):
            kept = joined[-1]
            joined[-1] += word
        else:
            joined.append(word)
            kept = ""
    return joined[1:], kept
