"""Curves of one run's losses and metrics over training steps, and learning curves of models over seeds."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.events import EvalDone, Event, StepDone
from workbench.views.metrics import MetricLabel, metric_label


@dataclass(frozen=True)
class Series:
    """Values over training steps: ``step`` int64 [N], ascending; ``value`` float64 [N]."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Curves:
    """What one run logged over training.

    A loss term with weight 0 at some steps has fewer points than the total. ``metrics`` is by split, then by name.
    """

    run: str
    loss: Series
    weighted: dict[str, Series]
    metrics: dict[str, dict[str, Series]]


def curves(events: Iterable[Event]) -> Curves:
    """The curves of one run, from its events without superseded ones; the last event of a step counts."""
    events = list(events)
    runs = {event.run for event in events}
    if len(runs) != 1:
        raise ValueError(f"curves takes the events of one run (got {len(runs)}): call it once per run")
    loss: dict[int, float] = {}
    weighted: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[str, dict[int, float]]] = {}
    for event in events:
        if isinstance(event, StepDone):
            loss[event.step] = event.loss
            for name, value in event.weighted.items():
                weighted.setdefault(name, {})[event.step] = value
        elif isinstance(event, EvalDone):
            for name, value in event.metrics.items():
                metrics.setdefault(event.split, {}).setdefault(name, {})[event.step] = value
    return Curves(
        runs.pop(),
        series_of(loss),
        {name: series_of(points) for name, points in weighted.items()},
        {split: {name: series_of(points) for name, points in of.items()} for split, of in metrics.items()},
    )


def series_of(points: Mapping[int, float]) -> Series:
    """Values by step as a series."""
    steps = sorted(points)
    return Series(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps], dtype=np.float64))


def spaced(length: int, number: int) -> list[int]:
    """At most ``number`` evenly spaced indices of a list of that length, including the first and the last."""
    indices: list[int] = np.linspace(0, length - 1, min(number, length)).round().astype(int).tolist()
    return indices


@dataclass(frozen=True)
class ModelCurve:
    """One model's curve for each seed, and their mean at the steps that all seeds have."""

    model: str
    seeds: tuple[Series, ...]
    mean: Series


@dataclass(frozen=True)
class LearningView:
    """One metric on one split over training; ``teacher`` is the teacher's value if known."""

    metric: MetricLabel
    split: str
    models: tuple[ModelCurve, ...]
    teacher: float | None = None


def learning_view(
    curves: Mapping[str, Sequence[Curves]], metric: str, split: str, *, teacher: float | None = None
) -> LearningView:
    """The learning curves of ``metric`` on ``split``.

    Args:
        curves: by model, one run for each seed.
    """
    models = []
    for model, runs in curves.items():
        for run in runs:
            if metric not in run.metrics.get(split, {}):
                raise ValueError(f"run {run.run} has no {metric} on {split}: set evaluate.every_steps")
        seeds = tuple(run.metrics[split][metric] for run in runs)
        models.append(ModelCurve(model, seeds, _mean(seeds)))
    return LearningView(metric_label(metric), split, tuple(models), teacher)


def _mean(seeds: Sequence[Series]) -> Series:
    step = seeds[0].step
    for series in seeds[1:]:
        step = np.intersect1d(step, series.step)
    values = [series.value[np.isin(series.step, step)] for series in seeds]
    return Series(step, np.mean(values, axis=0))


MOST_POINTS = 4096
GROUP = 4  # consecutive points, of which thinning keeps two


class Trace:
    """A growing curve in bounded memory: values by step, with the training seconds at which they were logged.

    Beyond ``most_points`` it is thinned to the minimum and maximum of every four neighbors, so that spikes stay; a
    non-finite value counts as the maximum. The newest point always stays.
    """

    def __init__(self, most_points: int = MOST_POINTS) -> None:
        assert most_points >= 2 * GROUP
        self._most_points = most_points
        self._steps: list[int] = []
        self._elapsed_s: list[float] = []
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, elapsed_s: float, value: float) -> None:
        """Append a point; all points at or after its step are dropped first."""
        if self._steps and step <= self._steps[-1]:
            self.cut(step - 1)
        self._steps.append(step)
        self._elapsed_s.append(elapsed_s)
        self._values.append(value)
        if len(self._steps) > self._most_points:
            self._thin()

    def cut(self, step: int) -> None:
        """Drop all points after ``step``."""
        end = bisect_right(self._steps, step)
        del self._steps[end:], self._elapsed_s[end:], self._values[end:]

    @property
    def last(self) -> float | None:
        """The newest value; None if there is none."""
        return self._values[-1] if self._values else None

    @property
    def series(self) -> Series:
        """All points as a series."""
        return Series(np.array(self._steps, dtype=np.int64), np.array(self._values, dtype=np.float64))

    @property
    def elapsed_s(self) -> NDArray[np.float64]:
        """Seconds of training at each point, non-decreasing."""
        # A resumed run may have been timed differently; a plot over time needs an ascending axis.
        elapsed: NDArray[np.float64] = np.maximum.accumulate(np.array(self._elapsed_s, dtype=np.float64))
        return elapsed

    def _thin(self) -> None:
        num_grouped = (len(self._values) - 1) // GROUP * GROUP
        values = np.array(self._values[:num_grouped]).reshape(-1, GROUP)
        values[~np.isfinite(values)] = np.inf
        first = np.arange(len(values)) * GROUP
        extremes = np.unique(np.concatenate([first + values.argmin(1), first + values.argmax(1)]))
        kept = [*extremes.tolist(), *range(num_grouped, len(self._values))]
        self._steps = [self._steps[index] for index in kept]
        self._elapsed_s = [self._elapsed_s[index] for index in kept]
        self._values = [self._values[index] for index in kept]


def smooth(values: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    """Bias-corrected exponential moving average, float64 [N]. Non-finite values are kept and not averaged.

    Args:
        values: float64 [N].
        amount: the decay, in [0, 1); 0 returns the values unchanged.
    """
    if amount == 0:
        return values
    average = weight = 0.0
    smoothed = values.copy()
    for index, value in enumerate(values.tolist()):
        if np.isfinite(value):
            average = amount * average + (1 - amount) * value
            weight = amount * weight + (1 - amount)
            smoothed[index] = average / weight  # weight < 1 at the start: corrects the bias toward 0
    return smoothed
