"""The cells of a study: name, settings and run config of each, and the values that a search accepts."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.config.base import Axis, Choices
from workbench.config.run import RunConfig
from workbench.config.study import Study, flat, nested
from workbench.config.toml import at_length, load_recipe, parse_override, with_overrides, with_settings
from workbench.errors import unknown


@dataclass(frozen=True)
class Cell:
    """One configuration of a study; each seed makes a run of it.

    ``values`` are the settings that distinguish it from other cells. ``config`` has the recipe's own seed.
    """

    name: str
    values: Mapping[str, Any]
    config: RunConfig = field(repr=False)

    def at(self, seed: int) -> RunConfig:
        """The run config with this seed for weights, data order, crops and captions."""
        return self.config.with_seed(seed)


@dataclass(frozen=True)
class Changes:
    """Changes from the command line to all runs of a study."""

    overrides: tuple[str, ...] = ()
    steps: int | None = None


def base_config(study: Study, changes: Changes = Changes(), recipe: str = "") -> RunConfig:
    """The run config that all cells start from."""
    for override in changes.overrides:
        for key in flat(parse_override(override)):
            if clash := [name for name in study.varied if _overlap(key, name)]:
                raise ValueError(
                    f"--set {override}: study '{study.name}' varies {clash[0]}: edit the study's file instead"
                )
    config = with_settings(load_recipe(recipe or study.recipe), nested(study.settings))
    return with_overrides(config, changes.overrides)


def _overlap(one: str, other: str) -> bool:
    # With the dots, loss.fd overlaps loss.fd.weight, but not loss.fd2.
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def make_cell(
    study: Study, name: str, values: Mapping[str, Any], changes: Changes = Changes(), recipe: str = ""
) -> Cell:
    """The cell with these values."""
    base = base_config(study, changes, recipe)
    try:
        if study.grid or study.search:
            _check_losses(values, base)
        config = with_settings(base, nested(values))
    except ValueError as error:
        raise ValueError(f"cell '{name}': {error}") from None
    return Cell(name, dict(values), with_steps(study, config, changes))


def with_steps(study: Study, config: RunConfig, changes: Changes) -> RunConfig:
    """The run config with the number of steps from the command line, else from the study."""
    steps = study.lengths[0] if study.lengths and changes.steps is None else steps_of(study, changes)
    return at_length(config, steps, changes.overrides) if steps else config


def steps_of(study: Study, changes: Changes) -> int:
    """Number of steps from the command line, else the study's, the last of several; 0 keeps the recipe's."""
    own = study.lengths[-1] if study.lengths else study.steps
    return own if changes.steps is None else changes.steps


def _check_losses(keys: Iterable[str], base: RunConfig) -> None:
    """Refuse settings of losses that the base run lacks: they would silently add a loss with default settings."""
    for key in keys:
        head, _, rest = key.partition(".")
        if head == "loss" and rest.split(".")[0] not in base.loss:
            loss = rest.split(".")[0]
            hint = unknown("loss", loss, base.loss)
            raise ValueError(f"{key}: {hint}, or give the study's [settings] a loss.{loss}")


def cells_of(study: Study, changes: Changes = Changes()) -> tuple[Cell, ...]:
    """All cells of a grid or list, in order; none for a search, whose cells are sampled."""
    if study.search:
        # Raises for settings and recipes that are wrong: before the first trial, not at it.
        example_cell(study, changes)
        for recipe in (*study.against, *study.tuned):
            load_recipe(recipe)
        return ()
    if study.grid:
        combinations = [
            dict(zip(study.grid, values, strict=True)) for values in itertools.product(*study.grid.values())
        ]
        named = [(cell_name(values), values, "") for values in combinations]
    else:
        named = [(cell.name, cell.settings, cell.recipe) for cell in study.cells]
    cells = tuple(make_cell(study, name, values, changes, recipe) for name, values, recipe in named)
    _check_names(study, [cell.name for cell in cells])
    return cells


def example_cell(study: Study, changes: Changes = Changes()) -> Cell:
    """One configuration of a search space: all lower ends and first choices."""
    values = {key: axis.choices[0] if isinstance(axis, Choices) else axis.low for key, axis in study.search.items()}
    return make_cell(study, "an example", values, changes)


def example_cells(study: Study, changes: Changes = Changes()) -> list[Cell]:
    """Configurations at the ends of a search space: :func:`example_cell`, and one per other end or choice."""
    first = example_cell(study, changes)
    cells = [first]
    for key, axis in study.search.items():
        others = axis.choices[1:] if isinstance(axis, Choices) else [axis.high]
        cells += [
            make_cell(study, f"{key}={as_text(other)}", {**first.values, key: other}, changes) for other in others
        ]
    return cells


def _check_names(study: Study, names: Sequence[str]) -> None:
    # Different names can give one run id, and the runs of two cells would mix.
    ids = [plain(name) for name in names]
    for name, plain_name in zip(names, ids, strict=True):
        if ids.count(plain_name) > 1:
            raise ValueError(f"two cells of study '{study.name}' are named '{name}' in run ids: rename one")
    if study.baseline and study.baseline not in names:
        raise unknown("baseline cell", study.baseline, names)
    for name in study.paper.cells if study.paper else ():
        if name not in names:
            raise unknown("cell of the paper's figures", name, names)


def cell_name(values: Mapping[str, Any]) -> str:
    """Name of a combination: the value alone if one setting varies, else short names with values.

    >>> cell_name({"loss.fd.weight": 2, "loss.mfd.mask_ratio": 0.5})
    'fd.weight=2 mfd.mask_ratio=0.5'
    """
    if len(values) == 1:
        return as_text(next(iter(values.values())))
    return " ".join(f"{key.split('.', 1)[-1]}={as_text(value)}" for key, value in values.items())


def as_text(value: Any) -> str:
    """The value of a setting, formatted for reading."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={as_text(inner)}" for key, inner in value.items())
    return ",".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


def plain(name: str) -> str:
    """A cell's name as part of a run id."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")


def about(axis: Axis) -> str:
    """Description of a search range."""
    if isinstance(axis, Choices):
        return f"one of {', '.join(map(as_text, axis.choices))}"
    kind = ", log scale" if axis.log else f", in steps of {as_text(axis.step)}" if axis.step else ""
    return f"{as_text(axis.low)} to {as_text(axis.high)}{kind}"


def parse_values(study: Study, overrides: Iterable[str]) -> dict[str, Any]:
    """Values by setting, parsed from ``KEY=VALUE`` overrides."""
    values = {key: value for override in overrides for key, value in flat(parse_override(override)).items()}
    check_values(study, values)
    return values


def check_values(study: Study, values: Mapping[str, Any]) -> None:
    """Check values against the search space."""
    for key, value in values.items():
        if key not in study.search:
            raise unknown("setting of the search", key, study.search)
        if not study.search[key].holds(value):
            raise ValueError(f"{key} = {value} is outside {about(study.search[key])}")
