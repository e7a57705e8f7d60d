"""Settings of a run that differ from a paper's, each with the reason why it matters."""

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
    """A paper's settings.

    Attributes:
        recipe: the name of the recipe that holds them.
        image_size: of its students, in pixels; not part of a recipe.
        why: why each setting matters. Keys may contain "*" for any loss or option; the first match counts.
    """

    name: str
    recipe: str
    image_size: int
    why: Mapping[str, str]

    def reason(self, setting: str) -> str | None:
        """Why the setting matters; None if the paper does not state it."""
        return next((why for pattern, why in self.why.items() if fnmatchcase(setting, pattern)), None)


@dataclass(frozen=True)
class Departure:
    """A setting that differs from the paper's; ``paper`` or ``run`` is None where the setting is absent."""

    setting: str
    paper: Any
    run: Any
    why: str


@dataclass(frozen=True)
class Departures:
    """All differences of a run from a paper; ``num_compared`` counts the settings that the paper states."""

    paper: Paper
    num_compared: int
    departures: tuple[Departure, ...]

    def to_json(self) -> dict[str, Any]:
        """One entry of ``departures`` in ``--json``."""
        return {
            "paper": self.paper.name,
            "recipe": self.paper.recipe,
            "num_compared": self.num_compared,
            "settings": [asdict(departure) for departure in self.departures],
        }


def papers() -> list[Paper]:
    """The papers that ship with the package."""
    tables = [read_toml(path) for path in sorted((PACKAGE / "papers").glob("*.toml"))]
    return [Paper(table["name"], table["recipe"], table["image_size"], table["why"]) for table in tables]


def departures(paper: Paper, published: Table, run: Table) -> Departures:
    """Every setting of a run that differs from the paper's.

    Args:
        published: the paper's settings as nested tables.
        run: the run's settings as nested tables; only the losses that it uses are compared.
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
    """Settings by dotted name; a weight schedule (a table) stays one value."""

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
