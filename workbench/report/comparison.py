"""Comparing cells: gains and verdicts against one cell, learning curves, and how early the final order is known."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from workbench.config.study import Study
from workbench.events import EvalDone
from workbench.report.collect import LOSSES, Collected
from workbench.runs.log import read_history
from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Spread, Values, gain_on, pooled_spread
from workbench.statistics.rank_agreement import Agreement, rank_agreement
from workbench.statistics.verdict import FEWEST_SEEDS, Verdict, detectable, seeds_needed, verdicts
from workbench.sweeps.space import distributions
from workbench.views.curves import Curves, LearningView, Series, curves, learning_view
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell


@dataclass(frozen=True)
class Interpretation:
    """Comparison of all cells with one, on one metric: gains, Holm-adjusted p-values and verdicts.

    ``spread`` is the standard deviation pooled over all cells.
    """

    against: str
    gains: Mapping[str, Gain]
    p_values: Mapping[str, float]
    verdicts: Mapping[str, Verdict]
    spread: Spread

    @property
    def num_seeds(self) -> int:
        """Smallest number of shared seeds, among comparisons with enough seeds."""
        found = [len(gain.per_seed) for gain in self.gains.values()]
        return min((number for number in found if number >= FEWEST_SEEDS), default=max(found, default=0))

    @property
    def num_tests(self) -> int:
        """Number of comparisons in the Holm correction."""
        return max(1, sum(len(gain.per_seed) >= FEWEST_SEEDS for gain in self.gains.values()))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect at 80 % power, corrected for the number of comparisons."""
        return detectable(self.spread, self.num_seeds, num_tests=self.num_tests)

    def seeds_needed(self, cell: str) -> int | None:
        """Approximate number of seeds needed for 80 % power if the true difference is the measured one."""
        gain = self.gains[cell]
        return seeds_needed(gain.mean, self.spread, len(gain.per_seed), num_tests=self.num_tests)


def interpret_against(
    metrics: Sequence[MetricLabel], cells: Sequence[StudyCell], against: str
) -> dict[str, Interpretation]:
    """Comparisons with the cell ``against``, for every metric that it has."""
    compared = {}
    for metric in metrics:
        values = {cell.name: found for cell in cells if (found := cell.by_seed(metric.name))}
        # Loss values with different weights are not comparable.
        if against not in values or len(values) < 2 or metric.name in LOSSES:
            continue
        spread = _spread(values, cells, metric.name)
        others = {cell: gain_on(values, against, cell, spread) for cell in values if cell != against}
        gains = {cell: gain for cell, gain in others.items() if gain is not None}
        p_values = {cell: spread.p_value(gain.mean, len(gain.per_seed)) for cell, gain in gains.items()}
        judged = verdicts(gains, p_values, metric.higher_is_better)
        compared[metric.name] = Interpretation(
            against,
            gains,
            {cell: p_value for cell, (p_value, _) in judged.items()},
            {cell: found for cell, (_, found) in judged.items()},
            spread,
        )
    return compared


def _spread(values: Values, cells: Sequence[StudyCell], metric: str) -> Spread:
    """Pooled over all cells; unknown if it is zero by coincidence, which happens with few test pairs."""
    spread = pooled_spread(values)
    is_mean_over_items = any(metric in one.errors for cell in cells for one in cell.finished)
    return Spread(math.nan, 0) if spread.sd == 0 and is_mean_over_items else spread


SPLIT = "validation"
SHARES = (0.1, 0.2, 0.5)  # of training
MOST_CURVES, FEWEST_POINTS, FEWEST_CELLS = 6, 2, 3
CurvesByCell = Mapping[str, Sequence[Curves]]


def validation_curves(found: Collected, metric: str) -> CurvesByCell:
    """Validation curves of the metric of all finished runs, by cell."""
    finished = {one.run for cell in found.cells for one in cell.finished}
    by_cell: dict[str, list[Curves]] = {cell.name: [] for cell in found.cells}
    for one in found.runs:
        events = read_history(one.run, (EvalDone,)).events if one.run.id in finished else []
        if events and metric in (drawn := curves(events)).metrics.get(SPLIT, {}):
            by_cell[one.origin.cell].append(drawn)
    return {cell: drawn for cell, drawn in by_cell.items() if drawn}


def learning_of(drawn: CurvesByCell, metric: str) -> LearningView | None:
    """The learning curves of the cells; None if there are too many to distinguish, or none."""
    if not 0 < len(drawn) <= MOST_CURVES:
        return None
    if min(len(one.metrics[SPLIT][metric]) for of in drawn.values() for one in of) < FEWEST_POINTS:
        return None
    return learning_view(drawn, metric, SPLIT)


def rank_forecast(drawn: CurvesByCell, metric: str) -> dict[int, Agreement]:
    """Kendall's τ between the order of the cells at about 10, 20 and 50 % of training and the final order, by step.

    Steps are the nearest ones at which every run was evaluated; cells are means over seeds on the validation pairs.
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


FEWEST_TRIALS = 30  # with fewer, the shares are unreliable
FEW = 4  # with fewer, there are no shares


@dataclass(frozen=True)
class Importance:
    """Share of each setting in separating the best configurations from the others; they sum to 1, largest first."""

    shares: Mapping[str, float] = field(default_factory=dict)
    num_trials: int = 0

    @property
    def note(self) -> str:
        """Number of configurations, and whether it is enough."""
        few = f", fewer than {FEWEST_TRIALS}: unreliable" if self.is_guess else ""
        return f"PED-ANOVA over {self.num_trials} configurations{few}"

    @property
    def is_guess(self) -> bool:
        return self.num_trials < FEWEST_TRIALS


def importance(study: Study, cells: Sequence[StudyCell]) -> Importance:
    """PED-ANOVA (Watanabe et al. 2023) of the first objective on validation; empty shares with too few trials.

    The value of a configuration is the mean over its seeds of the difference from that seed's mean over complete
    configurations, so that pruned ones are included without bias from their seeds.
    """
    objective = study.objectives[0]
    if not study.search:
        return Importance()
    by_seed = {cell.name: cell.by_seed(objective.metric, validation=True) for cell in cells}
    complete = [by_seed[cell.name] for cell in cells if cell.is_complete]
    level = {
        seed: fmean(of[seed] for of in complete if seed in of) for seed in {seed for of in complete for seed in of}
    }
    known = {
        cell.name: fmean(of[seed] - level[seed] for seed in of if seed in level)
        for cell in cells
        if (of := by_seed[cell.name]) and of.keys() & level.keys()
    }
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = distributions(study)
    tried = optuna.create_study(direction=objective.direction)
    for cell in cells:
        if cell.name in known and cell.values.keys() == space.keys():
            tried.add_trial(optuna.create_trial(params=dict(cell.values), distributions=space, value=known[cell.name]))
    num_trials = len(tried.trials)
    if num_trials < FEW:
        return Importance(num_trials=num_trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            shares = get_param_importances(tried, evaluator=PedAnovaImportanceEvaluator())
        except ValueError:  # all configurations are equal
            shares = {}
    return Importance(shares, num_trials)
