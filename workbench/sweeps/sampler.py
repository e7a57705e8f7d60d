"""Samplers whose choice for trial n depends on n and the trials before it, never on how often they were restarted."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from workbench.config.study import Study
from workbench.randomness import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial, TrialState

MAKERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cma-es": lambda seed: CmaEsSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # asked for nothing: every cell is queued
}


class SteadySampler(BaseSampler):
    """Another sampler, made anew for every trial with a seed of that trial's number.

    A seeded sampler of Optuna that is made again for a loaded study repeats its first points; one that is kept is lost
    with its process. This one goes on as if nothing had happened, in any process.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self._make = MAKERS[name]
        self._seed = seed

    def _of(self, trial: "FrozenTrial") -> BaseSampler:
        return self._make(derive_seed(self._seed, "sampler", trial.number) % 2**32)

    def infer_relative_search_space(self, study: "OptunaStudy", trial: "FrozenTrial") -> "dict[str, BaseDistribution]":
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: "OptunaStudy", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: "OptunaStudy", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        sampler = self._make(derive_seed(self._seed, "sampler", trial.number, param_name) % 2**32)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: "OptunaStudy", trial: "FrozenTrial") -> None:
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self, study: "OptunaStudy", trial: "FrozenTrial", state: "TrialState", values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def make_sampler(study: Study) -> BaseSampler:
    """The study's sampler."""
    return SteadySampler(study.sampler)
