"""A study's results by cell and metric: each seed's values, intervals, and the paper's published values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.statistics.intervals import Estimate, Gain
from workbench.statistics.power import MOST_SEEDS
from workbench.views.comparison import setting_text
from workbench.views.metrics import MetricLabel, metric_label

MISSING, DROPPED = "missing", "dropped"
SEVERITY = (
    *("diverged", "failed", "unreadable", "dead", "silent", "stopped", "interrupted", "paused", "running", "new"),
    *(MISSING, DROPPED),
)


@dataclass(frozen=True)
class Replicate:
    """One cell at one seed.

    ``state`` is that of its run; "missing" without a run; "dropped" if none will be started. ``metrics`` are for
    reporting and ``validation`` for model selection, both in the stored unit. ``errors`` are standard errors of
    ``metrics`` over ``num_items`` test pairs.
    """

    seed: int
    state: str = MISSING
    run: str = ""
    step: int = 0
    num_steps: int = 0
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    num_items: int = 0

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"

    @property
    def state_text(self) -> str:
        """The state with the step, such as "running, step 40 of 80"."""
        where = f", step {self.step:,}" + (f" of {self.num_steps:,}" if self.num_steps else "") if self.step else ""
        return self.state + (where if not self.is_finished else "")


@dataclass(frozen=True)
class StudyCell:
    """One configuration at all requested seeds. ``trial`` is None until it has a run."""

    name: str
    values: Mapping[str, Any]
    replicates: tuple[Replicate, ...]
    trial: int | None = None

    @property
    def finished(self) -> tuple[Replicate, ...]:
        return tuple(one for one in self.replicates if one.is_finished)

    @property
    def is_complete(self) -> bool:
        return len(self.finished) == len(self.replicates)

    @property
    def state(self) -> str:
        """ "finished" if all replicates are, else the most severe state of the others."""
        others = {one.state for one in self.replicates if not one.is_finished}
        return next((state for state in SEVERITY if state in others), "finished")

    def by_seed(self, metric: str, *, validation: bool = False) -> dict[int, float]:
        """The metric by seed, for finished replicates with a finite value."""
        found = {one.seed: (one.validation if validation else one.metrics).get(metric) for one in self.finished}
        return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}

    def validation_mean(self, metric: str) -> float | None:
        """The mean over seeds on the validation pairs; None without a finished seed."""
        values = self.by_seed(metric, validation=True).values()
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Entry:
    """One cell's value of one metric, in the metric's stored unit; None if unknown.

    ``seeds_needed`` is the number that would settle an open comparison if the true difference is the measured one: None
    if more than a thousand, 0 if unknown.
    ``paper`` and ``paper_gain`` are in the displayed unit of the metric's label.
    """

    mean: Estimate | None = None
    gain: Gain | None = None
    p_value: float | None = None
    verdict: str = ""
    paper: float | None = None
    paper_gain: float | None = None
    seeds_needed: int | None = None

    @property
    def verdict_text(self) -> str:
        """The verdict, such as "better", or "open, 9 seeds" with the number needed."""
        if self.verdict != "open":
            return self.verdict
        is_known = self.seeds_needed is None and self.gain is not None and math.isfinite(self.gain.high)
        most = f">{MOST_SEEDS // 1000}k" if is_known else "more"  # short, for the dashboard's column
        return f"open, {f'{self.seeds_needed:,}' if self.seeds_needed else most} seeds"


@dataclass(frozen=True)
class StudyTable:
    """Cells by metrics. ``entries`` is by cell, then by metric, and has all cells, with and without runs."""

    name: str
    question: str
    baseline: str
    split: str
    metrics: tuple[MetricLabel, ...]
    cells: tuple[StudyCell, ...]
    entries: Mapping[str, Mapping[str, Entry]]
    paper_source: str = ""

    def entry(self, cell: StudyCell, metric: MetricLabel) -> Entry:
        return self.entries[cell.name].get(metric.name, Entry())

    def has_paper(self, metric: MetricLabel) -> bool:
        """Whether the paper publishes this metric for at least two cells."""
        return sum(self.entry(cell, metric).paper is not None for cell in self.cells) > 1

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The cells' values of the one numeric setting that varies, ascending; None for any other study."""
        settings = {setting for cell in self.cells for setting in cell.values}
        if len(settings) != 1:
            return None
        (setting,) = settings
        found = [cell.values.get(setting) for cell in self.cells]
        numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
        is_series = len(numbers) == len(found) > 1 and numbers == sorted(numbers)
        return tuple(map(float, numbers)) if is_series else None

    @property
    def setting(self) -> str:
        """The dotted name of the setting that varies; several are joined by commas."""
        return ", ".join(dict.fromkeys(setting for cell in self.cells for setting in cell.values))


def paper_in_our_unit(metric: MetricLabel, value: float) -> str:
    """A published value with the metric's number of digits, or one more if the paper has more."""
    more = abs(value - round(value, metric.digits)) > 10 ** -(metric.digits + 2)
    return f"{value:.{metric.digits + more}f}".replace("-", "\N{MINUS SIGN}")


def shown_metrics(wanted: Iterable[str], cells: Sequence[StudyCell]) -> tuple[MetricLabel, ...]:
    """The wanted metrics that any cell has, in this order; all of them before a run has finished."""
    names = list(dict.fromkeys(wanted))
    measured = {name for cell in cells for one in cell.finished for name in one.metrics}
    return tuple(metric_label(name) for name in names if not measured or name in measured)


@dataclass(frozen=True)
class Point:
    """One cell's values of several objectives, and whether it is on the Pareto front."""

    cell: str
    values: tuple[float, ...]
    on_front: bool


def pareto(values: Mapping[str, Sequence[float]], directions: Sequence[str]) -> list[Point]:
    """All cells, with those on the Pareto front marked.

    Args:
        values: by cell, one value for each objective.
        directions: "maximize" or "minimize" for each objective.
    """
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    scores = {cell: [sign * value for sign, value in zip(signs, of, strict=True)] for cell, of in values.items()}

    def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [
        Point(cell, tuple(values[cell]), not any(dominates(other, own) for other in scores.values()))
        for cell, own in scores.items()
    ]


@dataclass(frozen=True)
class SearchPoint:
    """A configuration of a search; ``best`` is the best value so far among configurations with all seeds."""

    trial: int
    cell: str
    value: float | None
    best: float | None
    state: str
    num_seeds: int


def history(cells: Sequence[StudyCell], metric: str, direction: str) -> list[SearchPoint]:
    """A search's configurations in the order of their trials, with validation means; None without a finished seed."""
    sign = 1 if direction == "maximize" else -1
    found: list[SearchPoint] = []
    best: float | None = None
    for cell in sorted((cell for cell in cells if cell.trial is not None), key=lambda cell: cell.trial or 0):
        mean, num_seeds = cell.validation_mean(metric), len(cell.by_seed(metric, validation=True))
        if mean is not None and cell.is_complete and (best is None or sign * mean > sign * best):
            best = mean
        found.append(SearchPoint(cell.trial or 0, cell.name, mean, best, cell.state, num_seeds))
    return found


# Parallel coordinates: one axis for each setting or metric, one line for each cell.
# Shape letters: N lines.

Limits = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class ParallelAxis:
    """One axis.

    Args:
        value_N: float64 in the unit of the label; for a categorical axis, indices into ``words``; NaN if missing.
        words: the categories; empty for a numeric axis.
    """

    name: str
    label: str
    value_N: NDArray[np.float64]
    words: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[float, float]:
        """The minimum and maximum, widened if all values are equal."""
        known_N = self.value_N[np.isfinite(self.value_N)]
        low, high = (float(known_N.min()), float(known_N.max())) if len(known_N) else (0.0, 1.0)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @property
    def height_N(self) -> NDArray[np.float64]:
        """The height at which each line crosses the axis, in [0, 1]."""
        low, high = self.limits
        heights: NDArray[np.float64] = (self.value_N - low) / (high - low)
        return heights


@dataclass(frozen=True, eq=False)
class Parallel:
    """N lines over A axes."""

    lines: tuple[str, ...]
    axes: tuple[ParallelAxis, ...]

    def kept_N(self, limits: Limits) -> NDArray[np.bool_]:
        """Which lines are within the limits of every limited axis, bool [N]; a missing value is outside."""
        kept_N = np.ones(len(self.lines), dtype=bool)
        for axis in self.axes:
            if axis.name in limits:
                low, high = limits[axis.name]
                tolerance = 1e-9 * max(1.0, abs(low), abs(high))  # sliders round their ends
                kept_N &= (axis.value_N >= low - tolerance) & (axis.value_N <= high + tolerance)
        return kept_N


def parallel(table: StudyTable) -> Parallel:
    """One line for each cell with a finished run: its settings, then its mean of every metric.

    Raises:
        ValueError: no cell has finished.
    """
    cells = [cell for cell in table.cells if cell.finished]
    if not cells:
        raise ValueError(f"nothing to draw: no run of study '{table.name}' has finished")
    settings = dict.fromkeys(setting for cell in cells for setting in cell.values)
    axes = [_setting_axis(setting, [cell.values.get(setting) for cell in cells]) for setting in settings]
    if len(settings) > 1 and any(set(cell.values) != set(settings) for cell in cells):
        axes = [_setting_axis("cell", [cell.name for cell in cells])]  # cells without common settings: by name
    for metric in table.metrics:
        means = [table.entry(cell, metric).mean for cell in cells]
        if any(means):
            value_N = metric.factor * np.array([mean.mean if mean else math.nan for mean in means], dtype=np.float64)
            axes.append(ParallelAxis(metric.name, metric.title, value_N))
    return Parallel(tuple(cell.name for cell in cells), tuple(axes))


def _setting_axis(name: str, values: Sequence[Any]) -> ParallelAxis:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ParallelAxis(name, name, np.array(values, dtype=np.float64))
    texts = [setting_text(value) for value in values]
    words = tuple(dict.fromkeys(texts))
    return ParallelAxis(name, name, np.array([words.index(text) for text in texts], dtype=np.float64), words)
