"""Importance of the settings of a search: PED-ANOVA, by Optuna."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from workbench.config.study import Study
from workbench.sweeps.space import distributions
from workbench.views.study import StudyCell

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
    whole = [by_seed[cell.name] for cell in cells if cell.is_complete]
    level = {seed: fmean(of[seed] for of in whole if seed in of) for seed in {seed for of in whole for seed in of}}
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
