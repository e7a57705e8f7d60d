"""Settings and metrics of several runs side by side, and settings of a run that differ from a paper's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from workbench.config.run import LossConfig
from workbench.config.toml import read_toml
from workbench.errors import visible
from workbench.resources import PACKAGE
from workbench.views.metrics import MetricLabel, in_order, metric_label

NOTHING = "\N{EN DASH}"


def setting_text(value: Any) -> str:
    """A setting's value as TOML on one line, without quotes around strings; a dash for None."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(setting_text(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{visible(key)} = {setting_text(one)}' for key, one in value.items())} }}"
    return visible(str(value)) or '""'


Table = Mapping[str, Any]

UNCOMPARED = ("question", "machine.pid")  # differ between runs without affecting results
IMPLIED = {f".{name}": LossConfig.model_fields[name].default for name in ("weight_at", "file")}


@dataclass(frozen=True)
class Evaluated:
    """The last evaluation of a run on one split; ``errors`` are standard errors where known."""

    step: int
    num_pairs: int
    metrics: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedRun:
    """A run to compare: ``settings`` as nested tables of its ``run.toml``, ``evaluations`` by split."""

    id: str
    settings: Table
    evaluations: Mapping[str, Evaluated] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One setting's values in all runs, by dotted name; None where a run does not have it."""

    name: str
    values: tuple[Any, ...]
    differs: bool


@dataclass(frozen=True)
class MetricRow:
    """One metric of all runs and its standard errors over test items; None if missing or not finite."""

    metric: MetricLabel
    values: tuple[float | None, ...]
    errors: tuple[float | None, ...]

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Each run's value minus the first run's."""
        first = self.values[0]
        return tuple(None if first is None or value is None else value - first for value in self.values)

    @property
    def difference_errors(self) -> tuple[float | None, ...]:
        """Standard errors of the differences, assuming independent measurements; None for the first run.

        For runs measured on the same items this is an upper estimate, because their errors are correlated. A paired
        estimate needs the outcome of every item, which runs do not store.
        """
        first = self.errors[0]
        later = (None if first is None or error is None else math.hypot(first, error) for error in self.errors[1:])
        return (None, *later)


@dataclass(frozen=True)
class SplitRows:
    """The metrics of one split.

    Attributes:
        steps: the step of each run's evaluation; None for a run without one.
        same_pairs: whether all runs were measured on the same pairs in blocks of the same size.
    """

    split: str
    rows: tuple[MetricRow, ...]
    steps: tuple[int | None, ...]
    same_pairs: bool


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; the values of a row are in the order of ``runs``."""

    runs: tuple[str, ...]
    settings: tuple[Setting, ...]
    splits: tuple[SplitRows, ...]

    @property
    def differing(self) -> tuple[Setting, ...]:
        """The settings that differ between runs."""
        return tuple(setting for setting in self.settings if setting.differs)

    def to_json(self, *, every_setting: bool = False) -> dict[str, Any]:
        """``settings`` and ``splits`` of ``--json``."""
        settings = self.settings if every_setting else self.differing
        return {
            "settings": {setting.name: list(setting.values) for setting in settings},
            "splits": {
                rows.split: {
                    "same_pairs": rows.same_pairs,
                    "steps": list(rows.steps),
                    "metrics": {
                        row.metric.name: {
                            "values": list(row.values),
                            "errors": list(row.errors),
                            "differences": list(row.differences),
                            "difference_errors": list(row.difference_errors),
                        }
                        for row in rows.rows
                    },
                }
                for rows in self.splits
            },
        }


def compare_runs(runs: Sequence[ComparedRun]) -> Comparison:
    """Compare runs; differences are to the first.

    Raises:
        ValueError: fewer than two runs, or the same run twice.
    """
    ids = tuple(run.id for run in runs)
    if len(set(ids)) < max(2, len(ids)):
        raise ValueError(f"a comparison needs two or more different runs (got {', '.join(ids)})")
    splits = dict.fromkeys(split for run in runs for split in run.evaluations)
    settings = sorted(_settings([run.settings for run in runs], ""), key=lambda setting: not setting.differs)
    return Comparison(ids, tuple(settings), tuple(_split_rows(split, runs) for split in splits))


def _settings(tables: Sequence[Table | None], prefix: str) -> list[Setting]:
    """The settings in the order of the runs' tables; a table in place of a number is one setting."""
    found: list[Setting] = []
    for key in dict.fromkeys(key for table in tables if table for key in table):
        name = f"{prefix}{key}"
        values = [table.get(key) if table else None for table in tables]
        if name in UNCOMPARED:
            continue
        if all(value is None or isinstance(value, Mapping) for value in values):
            found += _settings(values, f"{name}.")
        else:
            default = next((default for end, default in IMPLIED.items() if name.endswith(end)), None)
            # An absent setting equals an explicit default.
            effective = [default if value is None else value for value in values]
            found.append(Setting(name, tuple(values), any(value != effective[0] for value in effective)))
    return found


def _split_rows(split: str, runs: Sequence[ComparedRun]) -> SplitRows:
    evaluations = [run.evaluations.get(split) for run in runs]
    names = in_order({name for evaluated in evaluations if evaluated for name in evaluated.metrics})
    rows = tuple(
        MetricRow(
            metric_label(name),
            tuple(_finite(evaluated.metrics.get(name)) if evaluated else None for evaluated in evaluations),
            tuple(_finite(evaluated.errors.get(name)) if evaluated else None for evaluated in evaluations),
        )
        for name in names
    )
    steps = tuple(evaluated.step if evaluated else None for evaluated in evaluations)
    measured_on = [_measured_on(run, split) for run in runs if split in run.evaluations]
    return SplitRows(split, rows, steps, all(pairs == measured_on[0] for pairs in measured_on))


def _measured_on(run: ComparedRun, split: str) -> tuple[Any, ...]:
    """The data, number of pairs and block size of an evaluation; metrics are comparable if these are equal."""

    data, evaluate = run.settings.get("data", {}), run.settings.get("evaluate", {})
    spec = data.get(split)
    source = str(data.get("train")).partition("/")[0] if spec == "auto" else spec  # a sample set's own split
    return (source, run.evaluations[split].num_pairs, evaluate.get("block_size"))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


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
