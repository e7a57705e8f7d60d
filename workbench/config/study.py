"""Studies: a question, the settings that vary, and the number of seeds. One TOML file per study, in ``studies/``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from workbench.config.base import Axis, Config
from workbench.config.toml import merge, nested_key, read_toml
from workbench.documents import Table

SAMPLERS = ("tpe", "gp", "cma-es", "random")
SEARCH_ONLY = ("sampler", "pruner", "trials", "lengths", "warm_start", "confirm_seeds", "against", "tuned", "budget")
RIVALS = ("against", "tuned")
VARIED = ("grid", "cells", "search")
AXIS = ("low", "high", "choices")
CONFIRM_SEEDS = 5
QUICK_STEPS, QUICK_PAIRS, QUICK_TRIALS = 6, 100, 3
QUICK_IMAGES = 16  # with boxes
QUICK = "-quick"
AUTO = "auto"  # of seeds: until every comparison with the baseline is settled
FEWEST_SEEDS = 3  # with fewer, the spread over seeds is unknown
MOST_SEEDS = 30  # beyond this, a difference near the margin costs more than it is worth


def flat(table: Mapping[str, Any], prefix: str = "", stop: tuple[str, ...] = ()) -> dict[str, Any]:
    """Nested tables as settings by dotted name; a table with a key in ``stop`` is a value.

    >>> flat({"loss": {"fd": {"weight": 2}}, "train.num_steps": 3})
    {'loss.fd.weight': 2, 'train.num_steps': 3}
    """
    settings: dict[str, Any] = {}
    for key, value in table.items():
        is_table = isinstance(value, Mapping) and value and not any(name in value for name in stop)
        settings |= flat(value, f"{prefix}{key}.", stop) if is_table else {f"{prefix}{key}": value}
    return settings


def _flat_table(table: Any) -> Any:
    return flat(table) if isinstance(table, dict) else table


def _flat_axes(table: Any) -> Any:
    return flat(table, stop=AXIS) if isinstance(table, dict) else table


Settings = Annotated[dict[str, Any], BeforeValidator(_flat_table)]
Axes = Annotated[dict[str, Axis], BeforeValidator(_flat_axes)]


class CellConfig(Config):
    """One explicitly listed cell."""

    name: str = Field(min_length=1)
    """Name of the cell in tables and run ids."""
    recipe: str = ""
    """Recipe of the cell; "" for the study's."""
    settings: Settings = {}
    """Settings that the cell changes."""


class Origin(Config):
    """A run's cell, seed and trial in its study: the ``[sweep]`` table of its ``run.toml``, which reports read."""

    model_config = ConfigDict(extra="ignore")  # a later version may add keys

    study: str
    """Name of the study, as in the storage and the run ids."""
    cell: str
    """Name of the cell."""
    values: dict[str, Any] = {}
    """Settings in which the cell differs from the others."""
    seed: int
    """Seed of the replicate."""
    trial: int
    """The number of the trial in the storage."""
    attempt: int = 1
    """From 1; increases if an earlier run of this cell and seed is locked by a process that does not respond."""


class StudyObjective(Config):
    """A quantity to optimize: a validation metric, ``num_params`` or ``elapsed_s``."""

    metric: str
    """Name of the metric."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which direction is better."""


class PublishedTable(Config):
    """Published figures, shown next to the measured ones."""

    source: str
    """Paper and table number."""
    cells: dict[str, dict[str, float]]
    """Figures by cell and metric; metrics in [0, 1] are given in percent."""


class SweepConfig(Config):
    """One sweep of a study that is made of several: the same cells, trained for longer or on other data."""

    name: str = Field(min_length=1)
    """Name of its results. That of another study shares its runs, if the settings are the same."""
    steps: int = Field(0, ge=0)
    """Number of steps of every run; 0 for the study's."""
    settings: Settings = {}
    """Changes to the study's settings."""


class Study(Config):
    """A question, and the experiment that answers it. Exactly one of ``grid``, ``cells`` and ``search`` is set."""

    name: str
    """Name of the study, by default the file's; the prefix of its run ids."""
    question: str
    """The question that the study answers, in one line."""
    recipe: str = "baseline"
    """Base recipe of all cells: a name or a file."""
    settings: Settings = {}
    """Changes to the recipe, shared by all cells."""
    steps: int = Field(0, ge=0)
    """Number of steps of every run; 0 keeps the recipe's."""
    seeds: PositiveInt = 3
    """Number of seeds (replicates) of every cell; "auto" is three, with most_seeds = 30."""
    most_seeds: int = Field(0, ge=0)
    """If more than ``seeds``: after these, further seeds are added to the cells whose comparison with the baseline is
    still open, up to this number (``--seeds auto``)."""
    margin: float = Field(1.0, ge=0, allow_inf_nan=False)
    """The smallest difference that matters, in percentage points: smaller ones are equivalent to none; 0 for no test of
    equivalence."""
    first_seed: int = Field(0, ge=0)
    """Seed of the first replicate; the others use consecutive seeds."""
    grid: Annotated[dict[str, list[Any]], BeforeValidator(_flat_table)] = {}
    """Values by setting; several settings are combined in a full grid."""
    cells: list[CellConfig] = []
    """Explicitly listed cells."""
    search: Axes = {}
    """Search space, by setting."""
    trials: int = Field(0, ge=0)
    """Number of configurations that a search tries."""
    lengths: list[PositiveInt] = []
    """Numbers of training steps of a search: all configurations train for the first, the best third of them for the
    second, and so on, each time from the start (successive halving; Jamieson & Talwalkar 2016)."""
    sampler: Literal["grid", "tpe", "gp", "cma-es", "random"] = "grid"
    """How a search samples configurations (default tpe); grids and cells use grid, which runs all."""
    pruner: Literal["none", "racing"] = "none"
    """racing: after each seed, prune configurations that are significantly worse than the best, paired by seed."""
    warm_start: list[str] = []
    """Recipes whose values a search tries first."""
    confirm_seeds: int = Field(0, ge=0)
    """Number of held-out seeds at which the best configuration of a search is compared with ``against``,
    ``warm_start`` and ``tuned`` afterwards; the default for a search is 5, 0 skips the comparison."""
    against: list[str] = []
    """Recipes to compare the best configuration with, in addition to those in ``warm_start``."""
    tuned: dict[str, Axes] = {}
    """Recipes to compare with after tuning, with a search space each: as many trials, seeds and steps as the search
    itself."""
    budget: dict[str, float] = {}
    """Upper limits of objectives (``num_params``, ``elapsed_s``) for a configuration to be accepted as a result."""
    objectives: list[StudyObjective] = Field([StudyObjective(metric="image_to_text_r1")], min_length=1)
    """What a search optimizes, and the first columns of a table of cells."""
    baseline: str = ""
    """Cell that the others are compared with; "" for none. Searches use ``against``."""
    sweeps: list[SweepConfig] = []
    """The sweeps that the study is made of, compared side by side; without any, the study is one sweep."""
    cost: str = ""
    """Expected cost, and on which hardware."""
    paper: PublishedTable | None = None
    """Published figures."""

    @model_validator(mode="before")
    @classmethod
    def _adds_seeds(cls, table: Any) -> Any:
        is_auto = isinstance(table, dict) and table.get("seeds") == AUTO
        return {"most_seeds": MOST_SEEDS} | table | {"seeds": FEWEST_SEEDS} if is_auto else table

    @model_validator(mode="before")
    @classmethod
    def _searches_by_tpe(cls, table: Any) -> Any:
        # Defaults of a search only; a grid that names a sampler is refused below.
        is_search = isinstance(table, dict) and table.get("search")
        return {"sampler": "tpe", "confirm_seeds": CONFIRM_SEEDS} | table if is_search else table

    @model_validator(mode="after")
    def _check(self) -> "Study":
        if sum(map(bool, (self.grid, self.cells, self.search))) != 1:
            raise ValueError("a study needs exactly one of [grid], [[cells]] and [search]")
        if self.search:
            self._check_search()
        elif given := [name for name in SEARCH_ONLY if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(f"{given[0]} belongs to [search]: drop it")
        if any(not values for values in self.grid.values()):
            raise ValueError(f"grid: {next(key for key, values in self.grid.items() if not values)} has no values")
        names = [sweep.name for sweep in self.sweeps]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"two sweeps are named '{twice}': rename one")
        if self.sweeps and self.search:
            raise ValueError("sweeps are for grids and cells: drop sweeps, or write a search for each")
        if self.is_sequential and not self.baseline:
            raise ValueError(
                'seeds = "auto" and most_seeds compare cells with a baseline: name it with baseline, or give a number '
                "of seeds"
            )
        return self

    def _check_search(self) -> None:
        if self.most_seeds:
            raise ValueError(
                'seeds = "auto" and most_seeds are for grids; a search compares its best with rivals on confirm_seeds '
                "seeds"
            )
        if self.baseline:
            raise ValueError("a search is compared with recipes: use against = [...] instead of baseline")
        if not self.confirm_seeds and (given := next((name for name in RIVALS if getattr(self, name)), "")):
            raise ValueError(f"{given} needs confirm_seeds, which is 0: drop one of the two")
        if empty := next((recipe for recipe, axes in self.tuned.items() if not axes), ""):
            raise ValueError(f"tuned: {empty} has no search space: give a range or choices, or use against")
        if self.sampler == "grid":
            raise ValueError(f"a search cannot use sampler grid: choose {', '.join(SAMPLERS)}")
        if not self.trials:
            raise ValueError("a search needs a number of trials, e.g. trials = 40")
        self._check_lengths()
        if self.pruner == "racing" and (len(self.objectives) > 1 or self.seeds < 2):
            raise ValueError("racing compares one objective over at least 2 seeds: set pruner to none")
        if self.sampler == "cma-es" and len(self.objectives) > 1:
            raise ValueError("cma-es supports one objective: choose tpe, gp or random")

    def _check_lengths(self) -> None:
        if not self.lengths:
            return
        if self.steps:
            raise ValueError("lengths gives the numbers of steps: drop steps")
        if sorted(set(self.lengths)) != self.lengths:
            raise ValueError(f"lengths must increase (got {', '.join(map(str, self.lengths))})")
        if len(self.objectives) > 1 or self.budget:
            raise ValueError("lengths ranks configurations by one objective: drop the other objectives, and budget")

    def parts(self) -> "tuple[Study, ...]":
        """The study of each sweep, under its name; the study itself if it is one sweep."""
        return tuple(
            self.model_copy(
                update={
                    "name": sweep.name,
                    "steps": sweep.steps or self.steps,
                    "settings": self.settings | sweep.settings,
                    "sweeps": [],
                }
            )
            for sweep in self.sweeps
        ) or (self,)

    def quick(self) -> "Study":
        """A rehearsal of the study: few steps, few held-out pairs, at most two seeds and three trials."""
        few = {"data.num_validation_pairs": QUICK_PAIRS, "data.num_test_pairs": QUICK_PAIRS}
        if "dense.data" in self.settings:
            few |= {"dense.num_images": QUICK_IMAGES, "dense.num_validation_images": QUICK_IMAGES, "dense.epochs": 1}
        return self.model_copy(
            update={
                "steps": QUICK_STEPS,
                "seeds": min(self.seeds, 2),
                "most_seeds": 0,
                "lengths": [],
                "trials": min(self.trials, QUICK_TRIALS),
                "confirm_seeds": min(self.confirm_seeds, 2),
                "settings": self.settings | few,
            }
        )

    @property
    def is_sequential(self) -> bool:
        """Whether the results decide on the number of seeds."""
        return self.most_seeds > self.seeds

    @property
    def num_runs(self) -> int:
        """Number of runs of the study if none is pruned."""
        num_cells = self.trials or len(self.cells) or math.prod(len(values) for values in self.grid.values())
        return (num_cells * self.seeds + self.num_later_runs) * max(1, len(self.sweeps))

    @property
    def num_later_runs(self) -> int:
        """Number of runs after a search: to tune the ``tuned`` recipes, and to confirm the result."""
        # Tuned recipes are rivals in the confirmation; without one, they are not tuned.
        num_tunings = len(self.tuned) if self.confirm_seeds else 0
        num_longer = sum(kept_at_lengths(self.trials, len(self.lengths)))
        num_tuned = num_tunings * (self.trials + num_longer)
        return (num_longer + num_tuned) * self.seeds + self.num_confirmed * self.confirm_seeds

    @property
    def num_confirmed(self) -> int:
        """Number of cells in the final comparison of a search: its best trial and its rivals; 0 for other studies."""
        return len({*self.against, *self.warm_start}) + len(self.tuned) + 1 if self.confirm_seeds else 0

    @property
    def varied(self) -> set[str]:
        """The settings in which cells differ."""
        return {*self.grid, *self.search, *(key for cell in self.cells for key in cell.settings)}


KEPT = 3  # of so many configurations, the best one trains for longer


def kept_at_lengths(num_trials: int, num_lengths: int) -> list[int]:
    """How many configurations are left at each length after the first.

    >>> kept_at_lengths(40, 3)
    [13, 4]
    """
    kept: list[int] = []
    for _ in range(1, num_lengths):
        kept.append(max(1, (kept[-1] if kept else num_trials) // KEPT))
    return kept


def nested(settings: Mapping[str, Any]) -> Table:
    """The inverse of :func:`flat`."""
    table: Table = {}
    for key, value in settings.items():
        table = merge(table, nested_key(key, value))
    return table


def read_origin(config_file: Path) -> Origin | None:
    """The origin of a run; None for a run that does not belong to a study."""
    table = read_toml(config_file).get("sweep")
    return None if table is None else Origin.parse(table)
