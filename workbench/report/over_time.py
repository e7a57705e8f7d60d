"""How a study's cells learn, and how early their order was known."""

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.events import EvalDone
from workbench.report.collect import Collected
from workbench.runs.lineage import read_history
from workbench.statistics.agreement import Agreement, rank_agreement
from workbench.views.curves import Curves, Series, curves
from workbench.views.learning import LearningView, learning_view

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
