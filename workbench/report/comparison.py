"""How a study's cells learn, and how early their order was known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.events import EvalDone
from workbench.report.collect import LOSSES, Collected
from workbench.runs.lineage import read_history
from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread, Values, gain_on, pooled_spread
from workbench.statistics.rank_agreement import Agreement, rank_agreement
from workbench.statistics.verdict import FEWEST_SEEDS, Verdict, detectable, seeds_needed, verdicts
from workbench.views.curves import Curves, LearningView, Series, curves, learning_view
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

# Every cell against one of them, metric by metric: what each gains, and what may be said of it.


@dataclass(frozen=True)
class Interpretation:
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


def interpret_against(
    metrics: Sequence[MetricLabel], cells: Sequence[StudyCell], against: str
) -> dict[str, Interpretation]:
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
        told[metric.name] = Interpretation(
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


SPLIT = "validation"
SHARES = (0.1, 0.2, 0.5)  # of training
MOST_CURVES, FEWEST_POINTS, FEWEST_CELLS = 6, 2, 3
CurvesByCell = Mapping[str, Sequence[Curves]]


def validation_curves(found: Collected, metric: str) -> CurvesByCell:
    """What every finished run had of the metric on the validation pairs while it trained, by cell."""
    finished = {one.run for cell in found.cells for one in cell.finished}
    by_cell: dict[str, list[Curves]] = {cell.name: [] for cell in found.cells}
    for one in found.runs:
        events = read_history(one.run, (EvalDone,)).events if one.run.id in finished else []
        if events and metric in (drawn := curves(events)).metrics.get(SPLIT, {}):
            by_cell[one.origin.cell].append(drawn)
    return {cell: drawn for cell, drawn in by_cell.items() if drawn}


def learning_of(drawn: CurvesByCell, metric: str) -> LearningView | None:
    """The learning curves of the cells; None where there are too many to tell apart, or nothing to draw."""
    if not 0 < len(drawn) <= MOST_CURVES:
        return None
    if min(len(one.metrics[SPLIT][metric]) for of in drawn.values() for one in of) < FEWEST_POINTS:
        return None
    return learning_view(drawn, metric, SPLIT)


def rank_forecast(drawn: CurvesByCell, metric: str) -> dict[int, Agreement]:
    """How well the order of the cells early on foretold the last: Kendall's τ at about 10, 20 and 50 % of training.

    By step: the nearest at which every run was evaluated. Each cell is its mean over seeds on the validation pairs.
    """
    means = {cell: _mean_curve([one.metrics[SPLIT][metric] for one in of]) for cell, of in drawn.items()}
    if len(means) < FEWEST_CELLS:
        return {}
    steps = sorted(set.intersection(*(set(of) for of in means.values())))
    end = max(max(of) for of in means.values())
    before = [step for step in steps if step < end]
    wanted = sorted({min(before, key=lambda step: abs(step - share * end)) for share in SHARES}) if before else []
    last = [of[max(of)] for of in means.values()]
    agreed = {step: rank_agreement([of[step] for of in means.values()], last) for step in wanted}
    return {step: agreement for step, agreement in agreed.items() if agreement}


def _mean_curve(seeds: Sequence[Series]) -> Mapping[int, float]:
    steps = set.intersection(*(set(series.step.tolist()) for series in seeds))
    return {step: float(np.mean([series.value[series.step == step][0] for series in seeds])) for step in sorted(steps)}
