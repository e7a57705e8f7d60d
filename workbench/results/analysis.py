"""Beyond the table: learning curves, order early and in the paper, main effects, Pareto front, importance."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from workbench.config.base import Axis, Choices
from workbench.config.study import Study
from workbench.events import EvalDone
from workbench.results.table import COSTS, LOSSES, SHOWN, Collected
from workbench.runs.log import read_history
from workbench.statistics.interactions import Interaction, interactions
from workbench.statistics.rank_agreement import Agreement, rank_agreement
from workbench.statistics.verdict import Effect, main_effects, pooled_spread
from workbench.sweeps.space import distributions
from workbench.views.curves import Curves, LearningView, Series, curves, learning_view
from workbench.views.metrics import MetricLabel
from workbench.views.study import Point, StudyCell, pareto

SPLIT = "validation"
SHARES = (0.1, 0.2, 0.5)  # of training
MOST_CURVES, FEWEST_POINTS, FEWEST_CELLS = 6, 2, 3
CurvesByCell = Mapping[str, Sequence[Curves]]


def validation_curves(found: Collected, metric: str) -> CurvesByCell:
    """Validation curves of the metric of all finished runs, by cell."""
    finished = {one.run for cell in found.cells for one in cell.finished}
    by_cell: dict[str, list[Curves]] = {cell.name: [] for cell in found.cells}
    for one in found.runs:
        # Unfinished runs would shorten the steps that all curves share.
        events = read_history(one.run, (EvalDone,)).events if one.run.id in finished else []
        if events and metric in (drawn := curves(events)).metrics.get(SPLIT, {}):
            by_cell[one.origin.cell].append(drawn)
    return {cell: drawn for cell, drawn in by_cell.items() if drawn}


def learning_of(drawn: CurvesByCell, metric: str) -> LearningView | None:
    """The learning curves of the cells; None if there are too many to distinguish, or none."""
    # With more cells, lines and their names overlap; with one evaluation there is no curve.
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
    # Runs of different lengths: the final order is by the last evaluation of each cell.
    last = [of[max(of)] for of in means.values()]
    agreed = {step: rank_agreement([of[step] for of in means.values()], last) for step in wanted}
    return {step: agreement for step, agreement in agreed.items() if agreement}


def _mean_curve(seeds: Sequence[Series]) -> Mapping[int, float]:
    # Only steps that all seeds share: a mean over fewer seeds would jump.
    steps = set.intersection(*(set(series.step.tolist()) for series in seeds))
    return {step: float(np.mean([series.value[series.step == step][0] for series in seeds])) for step in sorted(steps)}


def agreement_with_paper(
    study: Study, metrics: Sequence[MetricLabel], cells: Sequence[StudyCell]
) -> dict[str, Agreement]:
    """Agreement of our order with the paper's, over the cells that both have, by metric.

    Where a paper orders its cells by one metric alone, our recall and accuracy are all compared with that order.
    """
    published = study.paper.cells if study.paper else {}
    known = [name for name in SHOWN if any(name in of for of in published.values())]
    found = {}
    for metric in metrics if published else ():
        if metric.name in (*LOSSES, *COSTS):  # their order follows from the settings, not from training
            continue
        theirs = known[0] if metric.name in SHOWN and metric.name not in known and len(known) == 1 else metric.name
        values = {cell.name: of for cell in cells if (of := cell.by_seed(metric.name))}
        both = [cell for cell in values if theirs in published.get(cell, {})]
        means = [fmean(values[cell].values()) for cell in both]
        spread = pooled_spread(values)
        # One noise level for all cells: that of the cell with the fewest seeds, which is the largest.
        fewest = min((len(values[cell]) for cell in both), default=1)
        error = spread.sd / (2 * fewest) ** 0.5
        if agreed := rank_agreement(means, [published[cell][theirs] for cell in both], error, spread.df):
            found[metric.name] = replace(agreed, published=theirs if theirs != metric.name else "")
    return found


def effects_of(study: Study, metrics: Sequence[MetricLabel], cells: Sequence[StudyCell]) -> dict[str, list[Effect]]:
    """The main effects of a grid of several settings, by metric."""
    if len(study.grid) < 2:
        return {}
    levels = {cell.name: {key: _hashable(value) for key, value in cell.values.items()} for cell in cells}
    # Cells of an earlier version of the study may lack a setting of the grid, or have others.
    levels = {name: of for name, of in levels.items() if of.keys() == study.grid.keys()}
    found = {
        metric.name: main_effects({cell.name: cell.by_seed(metric.name) for cell in cells}, levels)
        for metric in metrics
    }
    return {metric: effects for metric, effects in found.items() if effects}


def _hashable(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)


def front_of(study: Study, cells: Sequence[StudyCell]) -> list[Point]:
    """The complete cells in the space of several objectives, on the validation pairs."""
    if len(study.objectives) < 2:
        return []
    values = {}
    for cell in cells:
        means = [cell.validation_mean(objective.metric) for objective in study.objectives]
        known = [mean for mean in means if mean is not None]
        # A cell that lacks seeds could be on the front by luck.
        if cell.is_complete and len(known) == len(means):
            values[cell.name] = known
    return pareto(values, [objective.direction for objective in study.objectives])


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

    The value of a configuration is that of :func:`relative_values`.
    """
    objective = study.objectives[0]
    if not study.search:
        return Importance()
    known = relative_values(study, cells)
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = distributions(study)
    # Not the study's database, which has no values of pruned trials and may be on another machine.
    tried = optuna.create_study(direction=objective.direction)
    for cell in cells:
        # Optuna accepts a trial only with exactly the settings of the space.
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


def relative_values(study: Study, cells: Sequence[StudyCell]) -> dict[str, float]:
    """The first objective of each configuration on validation, as a difference from its seeds' mean over complete ones.

    Pruned configurations are included without bias from their seeds.
    """
    objective = study.objectives[0]
    by_seed = {cell.name: cell.by_seed(objective.metric, validation=True) for cell in cells}
    complete = [by_seed[cell.name] for cell in cells if cell.is_complete]
    level = {
        seed: fmean(of[seed] for of in complete if seed in of) for seed in {seed for of in complete for seed in of}
    }
    return {
        cell.name: fmean(of[seed] - level[seed] for seed in of if seed in level)
        for cell in cells
        if (of := by_seed[cell.name]) and of.keys() & level.keys()
    }


def interactions_of(study: Study, cells: Sequence[StudyCell]) -> list[tuple[str, str, Interaction]]:
    """The pairs of settings of a search by name, with the test of their interaction, the largest share first."""
    known = relative_values(study, cells) if study.search else {}
    settings = list(study.search)
    tried = [cell for cell in cells if cell.name in known and set(settings) <= cell.values.keys()]
    rows = [[_on_axis(study.search[key], cell.values[key]) for key in settings] for cell in tried]
    found = interactions(np.array(rows).reshape(len(tried), len(settings)), [known[cell.name] for cell in tried])
    return [(settings[one.first], settings[one.second], one) for one in found]


def _on_axis(axis: Axis, value: Any) -> float:
    """A value as a number in which effects are smooth: choices by their order, which is that of the file."""
    if isinstance(axis, Choices):
        return float(axis.choices.index(value)) if value in axis.choices else math.nan
    return math.log(value) if axis.log else float(value)
