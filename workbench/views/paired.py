"""Two models at the same seeds -> one metric's pairs, with the gain between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.views.metrics import MetricLabel, metric_label
from workbench.views.results import ResultRow

if TYPE_CHECKING:
    from workbench.statistics.intervals import Gain


@dataclass(frozen=True)
class PairedView:
    """One metric of two models at S seeds, ascending; the values are in the metric's stored unit."""

    metric: MetricLabel
    baseline: str
    treated: str
    seed_S: tuple[int, ...]
    baseline_S: NDArray[np.float64]
    treated_S: NDArray[np.float64]
    gain: "Gain"

    @property
    def gain_text(self) -> str:
        """The mean gain as people read it, such as "+14.4 points"."""
        return f"{self.metric.number(self.gain.mean, signed=True)} {self._unit}".rstrip()

    @property
    def interval_text(self) -> str:
        """The interval as people read it, such as "95 %: +6.2 to +22.6"; a dash for an unknown bound."""
        low, high = (self.metric.number(bound, signed=True) for bound in (self.gain.low, self.gain.high))
        return f"95 %: {low} to {high}"

    @property
    def _unit(self) -> str:
        return "points" if self.metric.unit == "%" else self.metric.unit


def paired_view(rows: Sequence[ResultRow], metric: str, baseline: str, treated: str, gain: "Gain") -> PairedView:
    """The pairs of ``metric`` from the rows of two models, joined by seed.

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
