"""A run's settings and a paper's -> those that differ, and why each matters."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from workbench.config.toml import read_toml
from workbench.resources import PACKAGE

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Paper:
    """A paper whose settings are known: the recipe that holds them, and why each matters, by setting.

    ``image_size`` is that of its students, in pixels a side, which no recipe states.
    A setting may have "*" in the place of a loss's or an option's name; the first that fits says why.
    """

    name: str
    recipe: str
    image_size: int
    why: Mapping[str, str]

    def reason(self, setting: str) -> str | None:
        """Why the setting matters; None for one that the paper does not state."""
        return next((why for pattern, why in self.why.items() if fnmatchcase(setting, pattern)), None)


@dataclass(frozen=True)
class Departure:
    """A setting that is not the paper's; ``paper`` or ``run`` is None where there is no such setting."""

    setting: str
    paper: Any
    run: Any
    why: str


@dataclass(frozen=True)
class Departures:
    """How far a run is from a paper; ``num_compared`` counts the settings that the paper states."""

    paper: Paper
    num_compared: int
    departures: tuple[Departure, ...]

    def to_json(self) -> dict[str, Any]:
        """One of the ``departures`` of ``--json``."""
        return {
            "paper": self.paper.name,
            "recipe": self.paper.recipe,
            "num_compared": self.num_compared,
            "settings": [asdict(departure) for departure in self.departures],
        }


def papers() -> list[Paper]:
    """The papers that runs can be compared with."""
    tables = [read_toml(path) for path in sorted((PACKAGE / "papers").glob("*.toml"))]
    return [Paper(table["name"], table["recipe"], table["image_size"], table["why"]) for table in tables]


def departures(paper: Paper, published: Table, run: Table) -> Departures:
    """Every setting of a run that is not the paper's.

    Args:
        published: the paper's settings as nested tables.
        run: the run's; losses that it does not use are no departure, and those of the tables are compared.
    """
    theirs, ours = _flat(published), _flat(run)
    shared_losses = tuple(f"loss.{name}." for name in run.get("loss", {}))
    compared = {
        setting: why
        for setting in {**theirs, **ours}
        if (why := paper.reason(setting)) and (not setting.startswith("loss.") or setting.startswith(shared_losses))
    }
    found = tuple(
        Departure(setting, theirs.get(setting), ours.get(setting), why)
        for setting, why in compared.items()
        if not _equal(theirs.get(setting), ours.get(setting))
    )
    return Departures(paper, len(compared), found)


def _flat(table: Table, prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; a weight that is a schedule stays one value."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and key != "weight":
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second)
    return bool(first == second)
