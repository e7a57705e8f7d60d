"""Tab completion: what may stand at the cursor. The answer must come at once, so nothing here may import torch."""

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
SPLITTERS = re.compile("[:=@]+")  # readline ends a word at these, though they stand amid ours
PLAIN = re.compile(r"[\w./:@,+\[\]-]*")  # what no shell wants quoted


def complete_recipe() -> Candidates:
    from workbench.config.toml import recipes

    return [(name, _quotable(_table(str(path)).get("question", ""))) for name, path in recipes().items()]


def complete_study(context: typer.Context) -> Candidates:
    from workbench.config.study import studies
    from workbench.runs.summary import copy_of, known_studies

    runs, files = _runs_dir(context), studies()
    return [(name, _quotable(_question(files.get(name, copy_of(name, runs))))) for name in known_studies(runs)]


def complete_report_format() -> list[str]:
    from workbench.report.write import FIGURE_FORMATS, TEXT_FORMATS

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
    return [run.id for run in runs if run.id.isprintable()]  # a shell would take the rest for keys


def complete_run_or_study(context: typer.Context) -> list[str]:
    from workbench.runs.summary import studies_with_runs

    return complete_run(context) + studies_with_runs(_runs_dir(context))


def _runs_dir(context: typer.Context) -> Path:
    return Path(context.params.get("runs") or "runs")


def complete_tool() -> Candidates:
    from workbench.adapters.export import TOOLS

    return list(TOOLS.items())


def complete_format() -> Candidates:
    from workbench.models.export.formats import FORMATS

    return list(FORMATS.items())


def complete_data() -> list[str]:
    from workbench.data.samples.registry import SAMPLE_SETS

    splits = [f"samples:{name}/{split}" for name, samples in SAMPLE_SETS.items() for split in samples.default_pairs]
    return [*(f"samples:{name}" for name in SAMPLE_SETS), *splits]


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
    """``key=value`` of every setting: its choices if they can be listed, else what the recipe has now."""
    from workbench.config.run import LossConfig, RunConfig
    from workbench.losses.declared import conventions

    now = _leaves(_recipe(context))
    losses = sorted({key.split(".")[1] for key in now if key.startswith("loss.")})
    fields = dict(_fields(RunConfig)) | {
        key: field for loss in losses for key, field in _fields(LossConfig, f"loss.{loss}.")
    }
    fields |= {f"loss.{loss}.convention": ([*conventions()], "paper or released code") for loss in losses}
    listed: dict[str, Callable[[], list[str]]] = {
        "student.model": lambda: complete_model(context),
        "teacher.model": lambda: complete_model(context),
        "data.train": complete_data,
        "data.validation": complete_data,
        "data.test": complete_data,
    }
    candidates = []
    for key in sorted(fields.keys() | now.keys()):
        choices, about = fields.get(key, ([], ""))
        values = listed[key]() if key in listed else choices or [_as_typed(now.get(key, ""))]
        candidates += [(f"{key}={value}", about) for value in values]
    return candidates


def _recipe(context: typer.Context) -> dict[str, Any]:
    """The recipe that is being changed, with the losses of all the others beneath it."""
    from workbench.config.run import LossConfig, RunConfig
    from workbench.config.toml import load_recipe, merge, recipes

    name = context.params.get("recipe")
    try:
        chosen = load_recipe(name) if isinstance(name, str) else RunConfig()
    except ValueError:
        chosen = RunConfig()
    losses: dict[str, Any] = {}
    for recipe in recipes():
        losses = merge(_table(recipe).get("loss", {}), losses)
    known = {loss: LossConfig().model_dump() | _own_settings(loss) | table for loss, table in losses.items()}
    return merge({"loss": known}, chosen.model_dump(mode="json", exclude={"recipe", "question"}))


def _own_settings(loss: str) -> dict[str, Any]:
    """A loss's own settings with their defaults, as TOML has them; nothing of a loss in a user's file."""
    from workbench.losses.declared import declared_losses

    settings = declared_losses()[loss].settings if loss in declared_losses() else {}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _table(recipe: str) -> dict[str, Any]:
    """What a recipe says; nothing if it cannot be read, for this is no time to complain."""
    from workbench.config.toml import recipe_table

    try:
        return recipe_table(recipe)
    except ValueError:
        return {}


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, tuple[list[str], str]]]:
    """Every setting by its dotted name: its choices, if they can be listed, and what it is."""
    for name, field in config.model_fields.items():
        kind = field.annotation
        if hasattr(kind, "model_fields"):
            yield from _fields(kind, f"{prefix}{name}.")
        elif get_origin(kind) is not dict and name not in ("recipe", "question"):
            choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
            yield f"{prefix}{name}", (choices, _quotable(field.description or ""))


def _quotable(about: str) -> str:
    """In one line, and without the apostrophes that Typer's answer to zsh loses."""
    return " ".join(about.split()).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _as_typed(value: Any) -> str:
    """A value as one writes it after ``=``; nothing if it would need quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = re.sub(r"\s", "", str(value)) if isinstance(value, list | tuple) else str(value)
    return text if PLAIN.fullmatch(text) else ""


def answer(app: typer.Typer, question: str) -> None:
    """Answers a shell: ``question`` is what its script leaves in $_WORKBENCH_COMPLETE."""
    os.environ["COLUMNS"] = "10000"  # Typer would wrap what it says of a candidate, and each line is taken for one
    if question == "complete_bash":
        _answer_bash(app)
    else:
        app(prog_name=PROGRAM)


def _answer_bash(app: typer.Typer) -> None:
    """Answers bash, which hands ``samples:scenes`` over as three words and replaces the last only.

    The words are put together before the app sees them, and what stands already is cut from its candidates.
    """
    words, cursor = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
    whole, kept = _put_together(words[: cursor + 1])
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(whole), str(len(whole) - 1)
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            app(prog_name=PROGRAM)
    finally:
        sys.stdout.writelines(f"{line[len(kept) :]}\n" for line in said.getvalue().splitlines())


def _put_together(words: list[str]) -> tuple[list[str], str]:
    """The words as they were typed, and what of the last one bash will leave as it is."""
    whole, kept = [""], ""
    for word in words:
        splits, follows = SPLITTERS.fullmatch(word), SPLITTERS.search(whole[-1][-1:])
        if splits and whole[-1]:
            whole[-1] += word
            kept = whole[-1]
        elif follows and word and not word.startswith("-"):
            kept = whole[-1]
            whole[-1] += word
        else:
            whole.append(word)
            kept = ""
    return whole[1:], kept
