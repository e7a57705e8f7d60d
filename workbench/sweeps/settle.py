"""How many seeds each cell of a grid needs: a fixed number, or as many as settle its comparison with the baseline."""

import math
from collections.abc import Mapping, Sequence

from workbench.config.cells import Cell
from workbench.config.study import Study
from workbench.statistics.verdict import SETTLED, Judgment, judge, pooled_spread
from workbench.sweeps.ledger import Trial
from workbench.views.metrics import metric_label

Seeds = Mapping[str, range]  # by cell


def wanted_seeds(study: Study, cells: Sequence[Cell], newest: Mapping[str, Trial], step: int = 1) -> Seeds:
    """The seeds that every cell needs, given its newest trial; more than it has if its comparison is open.

    A sequential study adds ``step`` seeds to the open cells and to the baseline, which they are paired with, each time
    all requested runs have ended.
    """
    first, fixed = study.first_seed, range(study.first_seed, study.first_seed + study.seeds)
    if not study.is_sequential:
        return {cell.name: fixed for cell in cells}
    asked = {
        cell.name: range(first, max((fixed.stop, *(seed + 1 for seed in newest[cell.name].seeds))))
        if cell.name in newest
        else fixed
        for cell in cells
    }
    # One look at a time: with runs missing, the table that decides would depend on which worker was faster.
    if any(set(seeds) - ended(newest.get(name)) for name, seeds in asked.items()):
        return asked
    still_open = open_cells(study, newest)
    if not still_open:
        return asked
    extended = (study.baseline, *still_open)
    last = min(first + study.most_seeds, max(asked[name].stop for name in extended) + step)
    return asked | {name: range(first, last) for name in extended}


def ended(trial: Trial | None) -> set[int]:
    """The seeds of a trial that have ended."""
    return set(trial.outcomes) if trial else set()


def judgments(study: Study, newest: Mapping[str, Trial]) -> dict[str, Judgment]:
    """The verdict on every cell in the study's first objective, as the table shows it."""
    metric = metric_label(study.objectives[0].metric)
    values = {name: _values(trial, metric.name) for name, trial in newest.items()}
    values = {name: of for name, of in values.items() if of}
    if study.baseline not in values:
        return {}
    spread = pooled_spread(values, sequential=True)
    return judge(values, study.baseline, spread, metric.higher_is_better, margin=metric.margin(study.margin))


def open_cells(study: Study, newest: Mapping[str, Trial]) -> list[str]:
    """The cells without a verdict that more seeds can change: all their runs, and the baseline's, have finished."""
    whole = {name for name, trial in newest.items() if len(trial.finished) == len(trial.outcomes)}
    found = judgments(study, newest) if study.baseline in whole else {}
    return [name for name, one in found.items() if name in whole and one.verdict not in SETTLED]


def _values(trial: Trial, metric: str) -> dict[int, float]:
    values = {seed: outcome.shown_value(metric) for seed, outcome in trial.finished.items()}
    return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}
