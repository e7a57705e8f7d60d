"""Models over seeds -> one metric's learning curves, with each model's mean over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.views.curves import Curves, Series
from workbench.views.metrics import MetricLabel, metric_label


@dataclass(frozen=True)
class ModelCurve:
    """One model's curve at each seed, and their mean at the steps that all seeds have evaluated."""

    model: str
    seeds: tuple[Series, ...]
    mean: Series


@dataclass(frozen=True)
class LearningView:
    """One metric on one split while training; ``teacher`` is the teacher's own level, where it is known."""

    metric: MetricLabel
    split: str
    models: tuple[ModelCurve, ...]
    teacher: float | None = None


def learning_view(
    curves: Mapping[str, Sequence[Curves]], metric: str, split: str, *, teacher: float | None = None
) -> LearningView:
    """The learning curves of ``metric`` on ``split``, for each model (in the mapping's order) one run a seed.

    Raises:
        ValueError: a run never evaluated that metric on that split.
    """
    models = []
    for model, runs in curves.items():
        for run in runs:
            if metric not in run.metrics.get(split, {}):
                raise ValueError(f"run {run.run} has no {metric} on {split}: evaluate while training")
        seeds = tuple(run.metrics[split][metric] for run in runs)
        models.append(ModelCurve(model, seeds, _mean(seeds)))
    return LearningView(metric_label(metric), split, tuple(models), teacher)


def _mean(seeds: Sequence[Series]) -> Series:
    step = seeds[0].step
    for series in seeds[1:]:
        step = np.intersect1d(step, series.step)
    values = [series.value[np.isin(series.step, step)] for series in seeds]
    return Series(step, np.mean(values, axis=0))
