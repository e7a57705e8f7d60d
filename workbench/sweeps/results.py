"""What a study has found: cells by metrics, with 95 % intervals, and differences to the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.statistics.intervals import Estimate, Gain, seed_mean
from workbench.statistics.pooled import Values, gain_on, pooled_spread
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome


@dataclass(frozen=True)
class CellResult:
    """One cell: its mean of every metric over the seeds that finished, and what it gains on the baseline.

    The interval of a mean covers seeds, and items where the metric has a standard error over them; that of a gain
    covers seeds, with the spread of all cells pooled. ``state`` is "finished" if every seed did; else what the others
    ended as.
    """

    name: str
    number: int
    values: Mapping[str, Any]
    state: str
    outcomes: Mapping[int, Outcome]
    metrics: Mapping[str, Estimate]
    gains: Mapping[str, Gain]

    def to_json(self) -> dict[str, Any]:
        """One of the ``cells`` of ``--json``."""
        return {
            "name": self.name,
            "trial": self.number,
            "values": dict(self.values),
            "state": self.state,
            "reason": next((outcome.reason for outcome in self.outcomes.values() if outcome.reason), ""),
            "runs": [outcome.run for outcome in self.outcomes.values() if outcome.run],
            "seeds": list(self.outcomes),
            "metrics": {name: found.to_json() for name, found in self.metrics.items()},
            "gains": {name: found.to_json() for name, found in self.gains.items()},
        }


def cell_results(trials: Sequence[Trial], baseline: str = "") -> list[CellResult]:
    """The cells of these trials, in their order; differences pair the seeds that a cell and the baseline both have."""
    names = dict.fromkeys(name for trial in trials for outcome in trial.finished.values() for name in outcome.shown)
    gains: dict[str, dict[str, Gain]] = {trial.name: {} for trial in trials}
    for metric in names:
        for cell, gain in _gains(values_of(trials, metric), baseline).items():
            gains[cell][metric] = gain
    return [_result(trial, gains[trial.name]) for trial in trials]


def values_of(trials: Sequence[Trial], metric: str) -> dict[str, dict[int, float]]:
    """A metric to report, by cell and seed, where a run has finished and it is a number."""
    found = {
        trial.name: {seed: outcome.shown_value(metric) for seed, outcome in trial.finished.items()} for trial in trials
    }
    numbers = {
        name: {seed: value for seed, value in of.items() if value is not None and math.isfinite(value)}
        for name, of in found.items()
    }
    return {name: of for name, of in numbers.items() if of}


def _gains(values: Values, baseline: str) -> dict[str, Gain]:
    """What every other cell gains on the baseline, with the spread of all cells pooled."""
    if baseline not in values:
        return {}
    spread = pooled_spread(values)
    found = {name: gain_on(values, baseline, name, spread) for name in values if name != baseline}
    return {name: gain for name, gain in found.items() if gain is not None}


def _result(trial: Trial, gains: Mapping[str, Gain]) -> CellResult:
    own = list(trial.finished.values())
    metrics = {name: _mean(own, name) for name in _common([found.shown for found in own])}
    return CellResult(trial.name, trial.number, trial.values, _state(trial), trial.outcomes, metrics, gains)


def _mean(found: Sequence[Outcome], name: str) -> Estimate:
    """A metric's mean over seeds; all seeds are measured on the same items."""
    values = [outcome.shown[name] for outcome in found]
    if name not in _common([outcome.shown_errors for outcome in found]):
        return seed_mean(values)
    return seed_mean(values, [outcome.shown_errors[name] for outcome in found], num_items=found[0].num_items)


def _common(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Names that all have, with a number."""
    names = found[0] if found else ()
    return [name for name in names if all(math.isfinite(one.get(name, math.nan)) for one in found)]


def _state(trial: Trial) -> str:
    ends = [outcome.state for outcome in trial.outcomes.values() if outcome.state != "finished"]
    if ends:
        return ends[0]
    return trial.state if trial.is_settled else ("unfinished" if trial.outcomes else "waiting")
