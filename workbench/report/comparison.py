"""Every cell against one of them, metric by metric: what each gains, and what may be said of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.report.collect import LOSSES
from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread, Values, gain_on, pooled_spread
from workbench.statistics.power import detectable, seeds_needed
from workbench.statistics.verdict import FEWEST_SEEDS, Verdict, verdicts
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell


@dataclass(frozen=True)
class Told:
    """One metric's comparison with one cell: what each other cell gains on it, with Holm's p-values and verdicts.

    ``spread`` is pooled over all cells.
    """

    against: str
    gains: Mapping[str, Gain]
    p_values: Mapping[str, float]
    verdicts: Mapping[str, Verdict]
    spread: Spread

    @property
    def num_seeds(self) -> int:
        """Of the comparison with the fewest, of those that have enough."""
        found = [len(gain.per_seed) for gain in self.gains.values()]
        return min((number for number in found if number >= FEWEST_SEEDS), default=max(found, default=0))

    @property
    def num_tests(self) -> int:
        """How many comparisons verdicts are corrected for."""
        return max(1, sum(len(gain.per_seed) >= FEWEST_SEEDS for gain in self.gains.values()))

    @property
    def detectable(self) -> float:
        """The difference that so many seeds would have shown four times in five, corrected for so many cells."""
        return detectable(self.spread, self.num_seeds, num_tests=self.num_tests)

    def seeds_needed(self, cell: str) -> int | None:
        """About how many would show this cell's difference, if it is as large as it looks."""
        gain = self.gains[cell]
        return seeds_needed(gain.mean, self.spread, len(gain.per_seed), num_tests=self.num_tests)


def told_against(metrics: Sequence[MetricLabel], cells: Sequence[StudyCell], against: str) -> dict[str, Told]:
    """The comparisons with one cell, of every metric that it has."""
    told = {}
    for metric in metrics:
        values = {cell.name: found for cell in cells if (found := cell.by_seed(metric.name))}
        if against not in values or len(values) < 2 or metric.name in LOSSES:  # each is weighted otherwise
            continue
        spread = _spread(values, cells, metric.name)
        others = {cell: gain_on(values, against, cell, spread) for cell in values if cell != against}
        gains = {cell: gain for cell, gain in others.items() if gain is not None}
        p_values = {cell: spread.p_value(gain.mean, len(gain.per_seed)) for cell, gain in gains.items()}
        judged = verdicts(gains, p_values, metric.higher_is_better)
        told[metric.name] = Told(
            against,
            gains,
            {cell: p_value for cell, (p_value, _) in judged.items()},
            {cell: said for cell, (_, said) in judged.items()},
            spread,
        )
    return told


def _spread(values: Values, cells: Sequence[StudyCell], metric: str) -> Spread:
    """Pooled over all cells; unknown where it is zero by chance, as a mean over few test pairs may be."""
    spread = pooled_spread(values)
    is_mean_over_items = any(metric in one.errors for cell in cells for one in cell.finished)
    return Spread(math.nan, 0) if spread.sd == 0 and is_mean_over_items else spread
