"""A study: a question, what varies to answer it, and at how many seeds. One TOML file each, in ``studies/``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from workbench.config.axes import Axis
from workbench.config.base import Config
from workbench.config.toml import MOST_EXTENDED, extended_table, merge, nested_key, read_toml
from workbench.documents import Table
from workbench.errors import unknown
from workbench.resources import find_resource, list_resources

SAMPLERS = ("tpe", "gp", "cma-es", "random")
OF_SEARCHES = ("sampler", "pruner", "trials", "warm_start", "confirm_seeds", "against", "tuned", "budget")
RIVALS = ("against", "tuned")
VARIED = ("grid", "cells", "search")
AXIS = ("low", "high", "choices")
CONFIRM_SEEDS = 5
QUICK_STEPS, QUICK_PAIRS, QUICK_TRIALS = 6, 100, 3
QUICK = "-quick"


class CellConfig(Config):
    """One cell that is written out."""

    name: str = Field(min_length=1)
    """What it is called in tables, and in the ids of its runs."""
    recipe: str = ""
    """Its recipe; empty for the study's."""
    settings: dict[str, Any] = {}
    """What it changes."""

    @field_validator("settings", mode="before")
    @classmethod
    def _flat(cls, settings: Any) -> Any:
        return flat(settings) if isinstance(settings, dict) else settings


class Objective(Config):
    """A number to make large or small: a metric of the validation pairs, ``num_params`` or ``elapsed_s``."""

    metric: str
    """Its name."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which way is better."""


class Paper(Config):
    """Published figures, to stand beside ours."""

    source: str
    """Paper and table."""
    cells: dict[str, dict[str, float]]
    """Figures by cell and metric, in per cent where the metric is a share."""


class Study(Config):
    """What is asked, and how it is answered.

    Exactly one of ``grid``, ``cells`` and ``search`` says what varies.
    """

    name: str
    """The file's name, unless it gives another; run ids begin with it."""
    question: str
    """What the study is for, in one line."""
    recipe: str = "baseline"
    """What every cell starts from: a recipe's name or file."""
    settings: dict[str, Any] = {}
    """Changes to the recipe that all cells share."""
    steps: int = Field(0, ge=0)
    """Steps of every run; 0 keeps the recipe's."""
    seeds: PositiveInt = 3
    """Replicates of every cell."""
    first_seed: int = Field(0, ge=0)
    """The seed of the first; the others follow."""
    grid: dict[str, list[Any]] = {}
    """Values by setting; of several settings, every combination."""
    cells: list[CellConfig] = []
    """Cells, one by one."""
    search: dict[str, Axis] = {}
    """Where to search, by setting."""
    trials: int = Field(0, ge=0)
    """How many configurations a search tries."""
    sampler: Literal["grid", "tpe", "gp", "cma-es", "random"] = "grid"
    """How a search chooses, by tpe if it does not say; a grid takes all."""
    pruner: Literal["none", "racing"] = "none"
    """racing: after each seed, drop a configuration that is credibly worse than the best, paired by seed."""
    warm_start: list[str] = []
    """Recipes whose values are tried first."""
    confirm_seeds: int = Field(0, ge=0)
    """Fresh seeds at which the best of a search is compared, once it is over, with what it has to beat; a search that
    does not say takes 5."""
    against: list[str] = []
    """Recipes that it has to beat, besides those in ``warm_start``."""
    tuned: dict[str, dict[str, Axis]] = {}
    """Recipes that it has to beat once they are tuned, too, and where to search for each: with as many trials as the
    search itself, at its seeds and steps."""
    budget: dict[str, float] = {}
    """Most that a configuration may have of an objective (``num_params``, ``elapsed_s``) to count as a result."""
    objectives: list[Objective] = Field([Objective(metric="image_to_text_r1")], min_length=1)
    """What a search makes large or small, and what a table of cells shows first."""
    baseline: str = ""
    """The cell that the others are compared with; empty for none. A search has ``against``."""
    cost: str = ""
    """What to expect, and on what."""
    paper: Paper | None = None
    """The published table."""

    @field_validator("settings", "grid", mode="before")
    @classmethod
    def _flat(cls, table: Any) -> Any:
        return flat(table) if isinstance(table, dict) else table

    @field_validator("search", mode="before")
    @classmethod
    def _flat_axes(cls, table: Any) -> Any:
        return flat(table, stop=AXIS) if isinstance(table, dict) else table

    @field_validator("tuned", mode="before")
    @classmethod
    def _flat_axes_by_recipe(cls, table: Any) -> Any:
        return {recipe: cls._flat_axes(axes) for recipe, axes in table.items()} if isinstance(table, dict) else table

    @model_validator(mode="before")
    @classmethod
    def _searches_by_tpe(cls, table: Any) -> Any:
        is_search = isinstance(table, dict) and table.get("search")
        return {"sampler": "tpe", "confirm_seeds": CONFIRM_SEEDS} | table if is_search else table

    @model_validator(mode="after")
    def _holds_together(self) -> "Study":
        if sum(map(bool, (self.grid, self.cells, self.search))) != 1:
            raise ValueError("a study varies one thing: give it [grid], [[cells]] or [search]")
        if self.search:
            self._check_search()
        elif given := [name for name in OF_SEARCHES if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(f"{given[0]} belongs to [search]: leave it out")
        if any(not values for values in self.grid.values()):
            raise ValueError(f"grid: {next(key for key, values in self.grid.items() if not values)} has no values")
        return self

    def _check_search(self) -> None:
        if self.baseline:
            raise ValueError("the best of a search is compared with recipes: against = [...], not baseline")
        if not self.confirm_seeds and (given := next((name for name in RIVALS if getattr(self, name)), "")):
            raise ValueError(f"{given} is for confirm_seeds, which are 0: leave out one of the two")
        if empty := next((recipe for recipe, axes in self.tuned.items() if not axes), ""):
            raise ValueError(f"tuned: where to search for the best {empty}? Give it a range or choices, or use against")
        if self.sampler == "grid":
            raise ValueError(f"a search has no grid: sampler is one of {', '.join(SAMPLERS)}")
        if not self.trials:
            raise ValueError("a search needs to know how many trials it has: trials = 40")
        if self.pruner == "racing" and (len(self.objectives) > 1 or self.seeds < 2):
            raise ValueError("racing compares one objective over at least 2 seeds: set pruner to none")
        if self.sampler == "cma-es" and len(self.objectives) > 1:
            raise ValueError("cma-es takes one objective: choose tpe, gp or random")

    def quick(self) -> "Study":
        """The same study as a rehearsal: a few steps, few held-out pairs, at most two seeds and three trials."""
        few = {"data.num_validation_pairs": QUICK_PAIRS, "data.num_test_pairs": QUICK_PAIRS}
        return self.model_copy(
            update={
                "steps": QUICK_STEPS,
                "seeds": min(self.seeds, 2),
                "trials": min(self.trials, QUICK_TRIALS),
                "confirm_seeds": min(self.confirm_seeds, 2),
                "settings": self.settings | few,
            }
        )

    @property
    def num_runs(self) -> int:
        """Runs of the whole study, if nothing is dropped early."""
        num_cells = self.trials or len(self.cells) or math.prod(len(values) for values in self.grid.values())
        return num_cells * self.seeds + self.num_later_runs

    @property
    def num_later_runs(self) -> int:
        """Runs that follow those of a search: to tune its rivals, and to confirm what it found."""
        num_tunings = len(self.tuned) if self.confirm_seeds else 0
        return num_tunings * self.trials * self.seeds + self.num_confirmed * self.confirm_seeds

    @property
    def num_confirmed(self) -> int:
        """Cells that a search ends with: its best trial, and what that has to beat; 0 for other studies."""
        return len({*self.against, *self.warm_start}) + len(self.tuned) + 1 if self.confirm_seeds else 0

    @property
    def varied(self) -> set[str]:
        """The settings in which cells differ."""
        return {*self.grid, *self.search, *(key for cell in self.cells for key in cell.settings)}


def flat(table: Mapping[str, Any], prefix: str = "", stop: tuple[str, ...] = ()) -> dict[str, Any]:
    """Nested tables as settings by their dotted names; a table with a key in ``stop`` is a value.

    >>> flat({"loss": {"fd": {"weight": 2}}, "train.num_steps": 3})
    {'loss.fd.weight': 2, 'train.num_steps': 3}
    """
    settings: dict[str, Any] = {}
    for key, value in table.items():
        is_table = isinstance(value, Mapping) and value and not any(name in value for name in stop)
        settings |= flat(value, f"{prefix}{key}.", stop) if is_table else {f"{prefix}{key}": value}
    return settings


def nested(settings: Mapping[str, Any]) -> Table:
    """Undo :func:`flat`."""
    table: Table = {}
    for key, value in settings.items():
        table = merge(table, nested_key(key, value))
    return table


def studies() -> dict[str, Path]:
    """Every study by name: those in ``./studies``, those in the working directory itself, and those that come along."""
    listed = list_resources("studies", ".toml")
    folder = Path.cwd()
    loose = {path.stem: path for path in sorted(folder.glob("*.toml")) if is_study(path)}
    own = {name: path for name, path in listed.items() if path.parent == folder / "studies"}
    return listed | loose | own


def is_study(path: Path, seen: tuple[Path, ...] = ()) -> bool:
    """Whether a TOML file is a study, and not a recipe: it varies something, or extends a study."""
    try:
        table = read_toml(path)
    except ValueError:
        return False
    if any(table.get(varied) for varied in VARIED):
        return True
    parent, above = str(table.get("extends", "")), (*seen, path.resolve())
    if not parent.endswith(".toml"):
        return bool(parent) and find_resource(f"studies/{parent}.toml") is not None
    if len(above) > MOST_EXTENDED:
        return False
    beneath = path.parent / parent
    return beneath.resolve() not in above and is_study(beneath, above)


def load_study(name_or_file: str) -> Study:
    """The study of this name, or in this file, with everything it extends laid beneath it.

    Raises:
        ValueError: no such study, an unknown key or a bad value, in one line with the remedy.
    """
    path = _study_path(name_or_file)
    table = {"name": path.name.removesuffix(".toml")}
    table |= extended_table(name_or_file, "study", _study_path, _with_whole_paths, _named)
    try:
        return Study.parse(table)
    except ValueError as error:
        raise ValueError(f"study {path}: {error}") from None


def kept_as(study: Study, name: str = "", *, quick: bool = False) -> str:
    """The name under which a study's runs are kept: its own or the one given, with a rehearsal's apart."""
    return (name or study.name) + (QUICK if quick else "")


def study_kept_as(name: str) -> tuple[Study, str]:
    """The study, or its rehearsal, whose runs are kept under this name, and by what name it can be asked for.

    Raises:
        ValueError: no study has that name.
    """
    if name.endswith(QUICK) and name not in studies():
        own = name.removesuffix(QUICK)
        return load_study(own).quick(), own
    return load_study(name), name


def _with_whole_paths(table: Table, folder: Path) -> Table:
    """Recipes in files, and files of losses, lie beside the study that names them."""

    def whole(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            names_files = key == ".tuned"
            return {in_full(name, names_files): whole(inner, f"{key}.{name}") for name, inner in value.items()}
        if isinstance(value, list):
            return [whole(inner, key) for inner in value]
        return in_full(value, key.endswith((".recipe", ".warm_start", ".against", ".file")))

    def in_full(value: Any, names_file: bool) -> Any:
        is_file = isinstance(value, str) and value.endswith((".toml", ".py"))
        return str((folder / value).resolve()) if is_file and names_file else value

    return {key: whole(value, f".{key}") for key, value in table.items()}


def _named(parent: str) -> Path:
    """The study that another extends by name: one of a ``studies`` folder, so that a file may extend its namesake."""
    path = find_resource(f"studies/{parent}.toml")
    if path is None:
        raise unknown("study", parent, list_resources("studies", ".toml"))
    return path


def _study_path(name_or_file: str) -> Path:
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    known = studies()
    if name_or_file not in known:
        raise unknown("study", name_or_file, known)
    return known[name_or_file]
