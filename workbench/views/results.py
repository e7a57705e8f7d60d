"""Evaluated models: a table of means over seeds, and two models paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.views.metrics import MetricLabel, in_order, metric_label

if TYPE_CHECKING:
    from workbench.statistics.intervals import Gain


@dataclass(frozen=True)
class ResultRow:
    """One evaluated model; ``seed`` is None for a model that was not trained here, such as the teacher.

    ``num_params`` has the keys ``blocks`` and ``embeddings``; ``errors`` are standard errors over test items.
    """

    model: str
    seed: int | None
    metrics: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)
    num_params: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """One entry of ``rows`` in ``--json``."""
        return {
            "model": self.model,
            "seed": self.seed,
            "metrics": dict(self.metrics),
            "errors": dict(self.errors),
            "num_params": dict(self.num_params),
        }


@dataclass(frozen=True)
class MetricOverSeeds:
    """One model's metric over its seeds.

    ``spread`` is the standard deviation over seeds (None for one seed). ``error`` is the standard error over test
    items, the root mean square over seeds. Seeds share test items, so it does not shrink with their number.
    """

    mean: float
    spread: float | None
    error: float | None
    num_seeds: int


@dataclass(frozen=True)
class ModelResult:
    """One row of the table; ``cells`` has no entry for a metric that the model lacks."""

    model: str
    num_seeds: int
    cells: dict[str, MetricOverSeeds]
    num_params: dict[str, int]


@dataclass(frozen=True)
class ResultsView:
    """The table: columns in the order of ``METRIC_LABELS``, models in the order of their first row."""

    columns: tuple[MetricLabel, ...]
    models: tuple[ModelResult, ...]

    def text(self, model: ModelResult, column: MetricLabel) -> str:
        """A cell as text: the mean, ± its standard error over test items if known."""
        cell = model.cells.get(column.name)
        if cell is None:
            return column.number(None)
        mean = column.number(cell.mean)
        return mean if cell.error is None else f"{mean} ± {column.number(cell.error)}"


def results_view(rows: Sequence[ResultRow]) -> ResultsView:
    """The table of ``rows``, aggregated over seeds.

    Raises:
        ValueError: a model has two rows with the same seed.
    """
    by_model: dict[str, list[ResultRow]] = {}
    for row in rows:
        same = by_model.setdefault(row.model, [])
        if any(other.seed == row.seed for other in same):
            raise ValueError(f"{row.model} has two rows of seed {row.seed}: keep one")
        same.append(row)
    names = in_order({name for row in rows for name in row.metrics})
    models = tuple(
        ModelResult(model, len(same), _cells(same, names), dict(same[0].num_params)) for model, same in by_model.items()
    )
    return ResultsView(tuple(metric_label(name) for name in names), models)


def _cells(rows: Sequence[ResultRow], names: Sequence[str]) -> dict[str, MetricOverSeeds]:
    cells = {}
    for name in names:
        values = [row.metrics[name] for row in rows if name in row.metrics]
        errors = [row.errors[name] for row in rows if name in row.errors]
        if values:
            cells[name] = MetricOverSeeds(
                mean=float(np.mean(values)),
                spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                error=float(np.sqrt(np.mean(np.square(errors)))) if errors else None,
                num_seeds=len(values),
            )
    return cells


@dataclass(frozen=True)
class PairedView:
    """One metric of two models at S seeds, ascending; values in the metric's stored unit."""

    metric: MetricLabel
    baseline: str
    treated: str
    seed_S: tuple[int, ...]
    baseline_S: NDArray[np.float64]
    treated_S: NDArray[np.float64]
    gain: "Gain"

    @property
    def gain_text(self) -> str:
        """The mean gain as text, such as "+14.4 points"."""
        return f"{self.metric.number(self.gain.mean, signed=True)} {self.metric.difference_unit}".rstrip()

    @property
    def interval_text(self) -> str:
        """The interval as text, such as "95 %: +6.2 to +22.6"; a dash for an unknown bound."""
        low, high = (self.metric.number(bound, signed=True) for bound in (self.gain.low, self.gain.high))
        return f"95 %: {low} to {high}"


def paired_view(rows: Sequence[ResultRow], metric: str, baseline: str, treated: str, gain: "Gain") -> PairedView:
    """The values of ``metric`` for two models, joined by seed.

    Raises:
        ValueError: the two models do not have this metric at the same seeds.
    """

    values = {
        model: {
            row.seed: row.metrics[metric]
            for row in rows
            if row.model == model and row.seed is not None and metric in row.metrics
        }
        for model in (baseline, treated)
    }
    seeds = sorted(values[baseline])
    if not seeds or seeds != sorted(values[treated]):
        raise ValueError(f"{baseline} and {treated} do not have {metric} at the same seeds")
    return PairedView(
        metric_label(metric),
        baseline,
        treated,
        tuple(seeds),
        np.array([values[baseline][seed] for seed in seeds]),
        np.array([values[treated][seed] for seed in seeds]),
        gain,
    )
