"""Search spaces and samplers of a study in Optuna, and the settings that identify a study."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from workbench.config.base import Axis, Choices
from workbench.config.cells import Cell, as_text
from workbench.config.run import LossConfig, RunConfig
from workbench.config.study import Study, flat
from workbench.randomness import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial, TrialState


# Settings that do not change the result of a run.
FREE = (
    *("log.", "recipe", "question", "seed", "data.seed", "data.num_workers", "train.device", "train.micro_batch_size"),
    *("evaluate.every_steps", "evaluate.times"),
)
CELL = "cell"
MAX_SHOWN = 5


def distributions(study: Study, cells: Sequence[Cell] = ()) -> "dict[str, BaseDistribution]":
    """Optuna's distribution of each setting; a list of cells is one categorical over their names."""
    from optuna.distributions import CategoricalDistribution

    if study.search:
        return {key: _distribution(axis) for key, axis in study.search.items()}
    if _is_plain(study):
        return {key: CategoricalDistribution(values) for key, values in study.grid.items()}
    return {CELL: CategoricalDistribution([cell.name for cell in cells])}


def parameters(study: Study, cell: Cell) -> dict[str, Any]:
    """A cell's parameters in Optuna."""
    return dict(cell.values) if study.search or _is_plain(study) else {CELL: cell.name}


def _is_plain(study: Study) -> bool:
    """Whether all values of the grid are types that Optuna can store."""
    values = itertools.chain.from_iterable(study.grid.values())
    return bool(study.grid) and all(isinstance(value, bool | int | float | str) for value in values)


def _distribution(axis: Axis) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.choices)
    if axis.is_whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def identity(study: Study, base: RunConfig, cells: Sequence[Cell]) -> dict[str, Any]:
    """What must stay the same between commands on one study: plain values by name.

    Seeds, trials and the sampler may change. Settings with default values are left out, since later versions may add
    more of them.
    """
    shared = settings_of(base)
    found: dict[str, Any] = {
        "objectives": ", ".join(f"{objective.direction} {objective.metric}" for objective in study.objectives)
    }
    found |= {f"search of {key}": repr(_distribution(axis)) for key, axis in study.search.items()}
    # By name and difference, so that the error of a changed study names the cell and the setting.
    for cell in cells:
        own = settings_of(cell.config)
        changes = [f"{key}={as_text(value)}" for key, value in own.items() if shared.get(key) != value]
        left_out = [f"no {key}" for key in shared if key not in own]
        found[f"cell '{cell.name}'"] = " ".join(changes + left_out) or "the base"
    defaults = _defaults()
    return found | {
        key: as_text(value)
        for key, value in shared.items()
        if key not in study.varied and value != defaults.get(_general(key))
    }


def _defaults() -> dict[str, Any]:
    """Default values of settings, without loss weights: a loss has no default weight unless it is configured."""
    losses = {f"loss.*.{key}": value for key, value in LossConfig().model_dump(mode="json").items() if key != "weight"}
    return settings_of(RunConfig(loss={})) | losses


def _general(key: str) -> str:
    return re.sub(r"^loss\.[^.]+\.", "loss.*.", key)


def settings_of(config: RunConfig) -> dict[str, Any]:
    """All settings that determine a run's result, except its seed, by dotted name."""
    return {key: value for key, value in flat(config.model_dump(mode="json")).items() if not key.startswith(FREE)}


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The differences between two identities in one line; empty if there are none."""
    defaults = {key: as_text(value) for key, value in _defaults().items()}

    def value(identity: dict[str, Any], key: str) -> Any:
        return identity.get(key, defaults.get(_general(key), "not there"))

    # Earlier versions recorded settings that are free by now.
    keys = [key for key in {**before, **now} if not key.startswith(FREE) and value(before, key) != value(now, key)]
    changes = [f"{key} was {value(before, key)} and is {value(now, key)}" for key in keys]
    return "; ".join(changes[:MAX_SHOWN]) + ("; ..." if len(changes) > MAX_SHOWN else "")


MAKERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cma-es": lambda seed: CmaEsSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # never sampled from: every cell is queued
}


class SteadySampler(BaseSampler):
    """A sampler that is re-created for every trial, seeded by the trial's number.

    Its choice for trial n depends only on n and earlier trials, in any process. A seeded Optuna sampler that is
    re-created for a loaded study would repeat its first points.
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
