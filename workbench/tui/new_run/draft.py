"""A run before it begins: its settings, typed over and checked at once, and the command that starts it."""

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
from workbench.runs.summary import find_trainable

OF_THE_COMMAND = {
    "recipe": "a recipe's name or file: see `workbench recipes`",
    "name": "the run's name; empty for one that is made up of the recipe, the seed and the time",
    "steps": "the last step; every phase and ramp scales with it. Empty keeps the recipe's",
    "seed": "of the weights, and of the data's order and crops; empty keeps the recipe's",
}
OF_A_LOSS = "a setting of this loss's own: see `workbench losses`"
NOT_SET = ("recipe", "question", "seed", "data.seed", "train.num_steps")  # the command's own options say these
FIRST_RECIPE = "clip-kd"


@dataclass
class Draft:
    """What was typed over: the command's own options, and settings by their dotted names. Empty is as it was."""

    runs_dir: Path
    options: dict[str, str] = field(default_factory=lambda: {"recipe": FIRST_RECIPE})
    settings: dict[str, str] = field(default_factory=dict)

    def config(self) -> RunConfig:
        """The run as it would be.

        Raises:
            ValueError: it cannot be, in one line with the remedy.
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
        """As ``--set`` takes them."""
        return [f"{name}={text}" for name, text in self.settings.items()]

    def rows(self) -> dict[str, str]:
        """Every setting by its name, as it is now: with what was typed, or as the recipe has it.

        Raises:
            ValueError: the recipe cannot be read.
        """
        recipe = load_recipe(self.options.get("recipe") or FIRST_RECIPE)
        table = flat(recipe.model_dump(mode="json"))
        own = {option: self.options.get(option, "") for option in OF_THE_COMMAND}
        return own | {name: written(value) for name, value in table.items() if name not in NOT_SET} | self.settings

    def change(self, name: str, text: str) -> None:
        """Types ``text`` over a setting; empty text takes it back."""
        of = self.options if name in OF_THE_COMMAND else self.settings
        if text.strip():
            of[name] = text.strip()
        else:
            of.pop(name, None)

    def is_changed(self, name: str) -> bool:
        return name in self.settings or bool(self.options.get(name) and name != "recipe")

    def command(self) -> list[str]:
        """The ``workbench`` arguments that start the run in a process of its own."""
        options = [word for name, text in self.options.items() for word in (f"--{name}", text)]
        sets = [word for override in self.overrides for word in ("--set", override)]
        return ["train", *options, *sets, "--runs", str(self.runs_dir), "--detach", "--json"]

    def said(self) -> str:
        """What would begin.

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
    """A value as one writes it after ``=``."""
    return json.dumps(value) if isinstance(value, list | dict) else "" if value is None else as_text(value)


def about(name: str) -> str:
    """What a setting is, from its docstring."""
    if name in OF_THE_COMMAND:
        return OF_THE_COMMAND[name]
    if not name.startswith("loss."):
        return dict(_fields(RunConfig)).get(name, "")
    return dict(_fields(LossConfig, f"loss.{name.split('.')[1]}.")).get(name, OF_A_LOSS)


def _fields(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its dotted name, and what its docstring says."""
    for name, one in config.model_fields.items():
        kind = one.annotation
        if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join((one.description or "").split())


SWEEP_FIELDS = {
    "study": ("which study: a name (see `workbench studies`) or a file", ""),
    "seeds": ("replicates of every cell (empty: the study's)", ""),
    "steps": ("steps of every run (empty: the study's)", ""),
    "changes": ("changes in every run, such as train.batch_size=64", ""),
}


def sweep_command(filled: dict[str, str], runs_dir: Path) -> list[str]:
    """The arguments of a sweep, from a form's fields.

    Raises:
        ValueError: no such study, a cell that cannot be, or a number that is none.
    """
    if not filled["study"]:
        raise ValueError("which study? Their names: workbench studies")
    study = find_trainable(filled["study"], runs_dir)
    for name in ("seeds", "steps"):
        if filled[name] and (not filled[name].isdecimal() or not int(filled[name])):
            raise ValueError(f"{name} must be a whole number above 0 (got {filled[name]!r})")
    changes = filled["changes"].split()
    cells_of(study, Changes(tuple(changes), int(filled["steps"]) if filled["steps"] else None))
    numbers = [word for name in ("seeds", "steps") if filled[name] for word in (f"--{name}", filled[name])]
    sets = [word for change in changes for word in ("--set", change)]
    return ["sweep", "--study", filled["study"], *numbers, *sets, "--runs", str(runs_dir)]


def sweep_said(filled: dict[str, str], runs_dir: Path) -> str:
    """What would begin.

    Raises:
        ValueError: as :func:`sweep_command`.
    """
    sweep_command(filled, runs_dir)
    study = find_trainable(filled["study"], runs_dir)
    num_runs = study.num_runs * int(filled["seeds"] or study.seeds) // study.seeds
    cost = f" ({study.cost})" if study.cost and not filled["steps"] and not filled["seeds"] else ""
    return f"{study.question} {num_runs} runs{cost}, in a process of its own that outlives this screen."
