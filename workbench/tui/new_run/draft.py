"""A run or sweep to be started: its settings, their validation, and the command that starts it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from workbench.config.cells import Changes, as_text, cells_of
from workbench.config.run import LossConfig, RunConfig
from workbench.config.study import flat
from workbench.config.toml import at_length, load_recipe
from workbench.runs.directory import check_can_create
from workbench.runs.studies import find_trainable
from workbench.tui.commands import SEPARATELY

COMMAND_OPTIONS = {
    "recipe": "a recipe's name or file: see `workbench recipes`",
    "name": "the run's name; empty for one made of the recipe, the seed and the time",
    "steps": "the last step; every phase and ramp scales with it. Empty keeps the recipe's",
    "seed": "seed of the weights, and of the data's order and crops; empty keeps the recipe's",
}
OF_A_LOSS = "a setting of this loss: see `workbench losses`"
HIDDEN = ("recipe", "question", "seed", "data.seed", "train.num_steps")  # set by the command's options instead
FIRST_RECIPE = "clip-kd"


@dataclass
class Draft:
    """The edits: options of ``workbench train``, and settings by dotted name. What is not edited keeps its default."""

    runs_dir: Path
    options: dict[str, str] = field(default_factory=lambda: {"recipe": FIRST_RECIPE})
    settings: dict[str, str] = field(default_factory=dict)

    def config(self) -> RunConfig:
        """The run's config with the edits.

        Raises:
            ValueError: an edit is invalid; the message names the remedy.
        """
        config = load_recipe(self.options.get("recipe") or FIRST_RECIPE, self.overrides)
        for option in ("steps", "seed"):
            if (text := self.options.get(option, "")) and not text.isdecimal():
                raise ValueError(f"{option} must be a whole number (got {text!r})")
        if seed := self.options.get("seed"):
            config = config.with_seed(int(seed))
        if steps := self.options.get("steps"):
            config = at_length(config, int(steps), self.overrides)
        if name := self.options.get("name"):
            check_can_create(self.runs_dir, name)
        return config

    @property
    def overrides(self) -> list[str]:
        """The edited settings as arguments of ``--set``."""
        return [f"{name}={text}" for name, text in self.settings.items()]

    def rows(self) -> dict[str, str]:
        """The current value of every option and setting, as text by name.

        Raises:
            ValueError: the recipe is missing or invalid.
        """
        recipe = load_recipe(self.options.get("recipe") or FIRST_RECIPE)
        table = flat(recipe.model_dump(mode="json"))
        own = {option: self.options.get(option, "") for option in COMMAND_OPTIONS}
        return own | {name: written(value) for name, value in table.items() if name not in HIDDEN} | self.settings

    def change(self, name: str, text: str) -> None:
        """Set a setting to ``text``; empty text restores the default."""
        of = self.options if name in COMMAND_OPTIONS else self.settings
        if text.strip():
            of[name] = text.strip()
        else:
            of.pop(name, None)

    def is_changed(self, name: str) -> bool:
        return name in self.settings or bool(self.options.get(name) and name != "recipe")

    def command(self) -> list[str]:
        """The ``workbench`` arguments that start the run in a separate process."""
        options = [word for name, text in self.options.items() for word in (f"--{name}", text)]
        sets = [word for override in self.overrides for word in ("--set", override)]
        return ["train", *options, *sets, "--runs", str(self.runs_dir), "--detach", "--json"]

    def summary(self) -> str:
        """The run in one line.

        Raises:
            ValueError: as :meth:`config`.
        """
        config = self.config()
        train = config.train
        losses = ", ".join(config.loss) or "none"
        return (
            f"{train.num_steps:,} steps of {train.batch_size} pairs of {config.data.train}; losses: {losses}; "
            f"seed {config.seed}"
        )


def written(value: Any) -> str:
    """A value as text, as after ``=`` in ``--set``."""
    return json.dumps(value) if isinstance(value, list | dict) else "" if value is None else as_text(value)


def setting_help(name: str) -> str:
    """Help on a setting, from its docstring."""
    if name in COMMAND_OPTIONS:
        return COMMAND_OPTIONS[name]
    if not name.startswith("loss."):
        return dict(_fields(RunConfig)).get(name, "")
    return dict(_fields(LossConfig, f"loss.{name.split('.')[1]}.")).get(name, OF_A_LOSS)


def _fields(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name and docstring of every setting."""
    for name, one in config.model_fields.items():
        kind = one.annotation
        if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join((one.description or "").split())


SWEEP_FIELDS = {
    "study": ("study: a name (see `workbench studies`) or a file", ""),
    "seeds": ("seeds per cell (empty: the study's)", ""),
    "steps": ("steps per run (empty: the study's)", ""),
    "changes": ("changes to every run, such as train.batch_size=64", ""),
}


def sweep_command(filled: dict[str, str], runs_dir: Path) -> list[str]:
    """The ``workbench`` arguments of a sweep, from a form's fields.

    Raises:
        ValueError: there is no such study, or a field is invalid.
    """
    if not filled["study"]:
        raise ValueError("enter a study's name; list them with: workbench studies")
    study = find_trainable(filled["study"], runs_dir)
    for name in ("seeds", "steps"):
        if filled[name] and (not filled[name].isdecimal() or not int(filled[name])):
            raise ValueError(f"{name} must be a whole number above 0 (got {filled[name]!r})")
    changes = filled["changes"].split()
    cells_of(study, Changes(tuple(changes), int(filled["steps"]) if filled["steps"] else None))
    numbers = [word for name in ("seeds", "steps") if filled[name] for word in (f"--{name}", filled[name])]
    sets = [word for change in changes for word in ("--set", change)]
    return ["sweep", "--study", filled["study"], *numbers, *sets, "--runs", str(runs_dir)]


def sweep_summary(filled: dict[str, str], runs_dir: Path) -> str:
    """The sweep in one line: its question, the number of runs and the cost.

    Raises:
        ValueError: as :func:`sweep_command`.
    """
    sweep_command(filled, runs_dir)
    study = find_trainable(filled["study"], runs_dir)
    num_runs = study.num_runs * int(filled["seeds"] or study.seeds) // study.seeds
    cost = f" ({study.cost})" if study.cost and not filled["steps"] and not filled["seeds"] else ""
    return f"{study.question} {num_runs} runs{cost}, {SEPARATELY}."
