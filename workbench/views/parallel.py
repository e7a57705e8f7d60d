"""Parallel coordinates of a study: one axis for each setting or metric, one line for each cell.

Shape letters: N lines, A axes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.views.comparison import setting_text
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyTable

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
            axes.append(_metric_axis(metric, [mean.mean if mean else math.nan for mean in means]))
    return Parallel(tuple(cell.name for cell in cells), tuple(axes))


def _setting_axis(name: str, values: Sequence[Any]) -> ParallelAxis:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ParallelAxis(name, name, np.array(values, dtype=np.float64))
    texts = [setting_text(value) for value in values]
    words = tuple(dict.fromkeys(texts))
    return ParallelAxis(name, name, np.array([words.index(text) for text in texts], dtype=np.float64), words)


def _metric_axis(metric: MetricLabel, values: Sequence[float]) -> ParallelAxis:
    return ParallelAxis(metric.name, metric.title, metric.factor * np.array(values, dtype=np.float64))
