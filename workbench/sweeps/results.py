"""Results of a study: cells by metrics with 95 % intervals, and the best of a search against its rivals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.config.study import StudyObjective
from workbench.statistics.intervals import Estimate, Gain, seed_mean
from workbench.statistics.pooled import Values, gain_on, pooled_spread
from workbench.statistics.verdict import Verdict, seeds_needed, verdicts
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome
from workbench.views.metrics import MetricLabel, metric_label


@dataclass(frozen=True)
class CellResult:
    """One cell: mean of every metric over its finished seeds, and the gain over the baseline.

    The interval of a mean covers seeds, and items if the metric has a standard error over them; that of a gain covers
    seeds, with the variance pooled over all cells. ``state`` is "finished" if every seed finished, else the state of
    the first other one.
    """

    name: str
    number: int
    values: Mapping[str, Any]
    state: str
    outcomes: Mapping[int, Outcome]
    metrics: Mapping[str, Estimate]
    gains: Mapping[str, Gain]

    def to_json(self) -> dict[str, Any]:
        """An entry of ``cells`` in ``--json``."""
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
    """The cells of these trials, in order; gains are paired over the seeds that cell and baseline share."""
    names = dict.fromkeys(name for trial in trials for outcome in trial.finished.values() for name in outcome.shown)
    gains: dict[str, dict[str, Gain]] = {trial.name: {} for trial in trials}
    for metric in names:
        for cell, gain in _gains(values_of(trials, metric), baseline).items():
            gains[cell][metric] = gain
    return [_result(trial, gains[trial.name]) for trial in trials]


def values_of(trials: Sequence[Trial], metric: str) -> dict[str, dict[int, float]]:
    """Finite values of a reported metric, by cell and seed, of finished runs."""
    found = {
        trial.name: {seed: outcome.shown_value(metric) for seed, outcome in trial.finished.items()} for trial in trials
    }
    numbers = {
        name: {seed: value for seed, value in of.items() if value is not None and math.isfinite(value)}
        for name, of in found.items()
    }
    return {name: of for name, of in numbers.items() if of}


def _gains(values: Values, baseline: str) -> dict[str, Gain]:
    """The gain of every other cell over the baseline, with the variance pooled over all cells."""
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
    """A metric's mean over seeds; all seeds are evaluated on the same items."""
    values = [outcome.shown[name] for outcome in found]
    if name not in _common([outcome.shown_errors for outcome in found]):
        return seed_mean(values)
    return seed_mean(values, [outcome.shown_errors[name] for outcome in found], num_items=found[0].num_items)


def _common(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Names with a finite value in all mappings."""
    names = found[0] if found else ()
    return [name for name in names if all(math.isfinite(one.get(name, math.nan)) for one in found)]


def _state(trial: Trial) -> str:
    ends = [outcome.state for outcome in trial.outcomes.values() if outcome.state != "finished"]
    if ends:
        return ends[0]
    return trial.state if trial.is_settled else ("unfinished" if trial.outcomes else "waiting")


PHRASES: Mapping[Verdict, str] = {
    "better": "beats {rival}",
    "worse": "does not beat {rival}, which is better",
    "no difference seen": "is not significantly different from {rival}",
    "not enough seeds": "cannot be compared with {rival} with so few seeds",
}


@dataclass(frozen=True)
class RivalComparison:
    """A best configuration against one rival, in one objective.

    ``gain`` is that of the best over the rival, on the held-out seeds that both finished; None if there are none.
    ``p_value`` is Holm-adjusted over the rivals; ``num_seeds_needed`` is the number of seeds for 80 % power at a
    difference as large as the measured one.
    """

    best: str
    rival: str
    metric: str
    verdict: Verdict
    gain: Gain | None = None
    p_value: float = 1.0
    num_seeds_needed: int | None = None

    @property
    def text(self) -> str:
        """The result as a sentence."""
        claim = f"{self.best} {PHRASES[self.verdict].format(rival=repr(self.rival))}"
        label = metric_label(self.metric)
        if self.gain is None:
            return f"{claim}: no seed finished for both"
        more = self.verdict == "no difference seen" and self.num_seeds_needed
        needed = f"; about {more} seeds needed if the true difference is that large" if more else ""
        return f"{claim}: {label.label} {_shown(label, self.gain)}{needed}"

    def to_json(self) -> dict[str, Any]:
        """An entry of ``answers`` in ``--json``."""
        return {
            "best": self.best,
            "rival": self.rival,
            "metric": self.metric,
            "verdict": self.verdict,
            "gain": self.gain.to_json() if self.gain else None,
            "p_value": self.p_value,
            "seeds_needed": self.num_seeds_needed,
            "text": self.text,
        }


def answers(
    objectives: Sequence[StudyObjective], trials: Sequence[Trial], best: Sequence[str]
) -> list[RivalComparison]:
    """Every best configuration against every rival of the confirmation, by objective.

    Args:
        trials: those of the confirmation; all that are not among the best are rivals.
    """
    rivals = [trial.name for trial in trials if trial.name not in best]
    return [
        answer
        for objective in objectives
        for name in best
        for answer in _against(objective, values_of(trials, objective.metric), name, rivals)
    ]


def gains_on_rivals(trials: Sequence[Trial], best: Sequence[str]) -> dict[str, Any]:
    """Gains of the best over their rivals in all metrics, for JSON: by rival, then best, then metric."""
    return {
        rival.name: {one.name: one.to_json()["gains"] for one in cell_results(trials, rival.name) if one.name in best}
        for rival in trials
        if rival.name not in best
    }


def _against(objective: StudyObjective, values: Values, best: str, rivals: Sequence[str]) -> list[RivalComparison]:
    """The best against all rivals, with the variance pooled over all cells and Holm-adjusted p-values."""
    compared = [rival for rival in rivals if rival in values] if best in values else []
    spread = pooled_spread(values)
    gains = {rival: gain for rival in compared if (gain := gain_on(values, rival, best, spread)) is not None}
    p_values = {rival: spread.p_value(gain.mean, len(gain.per_seed)) for rival, gain in gains.items()}
    judged = verdicts(gains, p_values, objective.direction == "maximize")
    found = []
    for rival in rivals:
        if rival not in gains:
            found.append(RivalComparison(best, rival, objective.metric, "not enough seeds"))
            continue
        gain, (p_value, verdict) = gains[rival], judged[rival]
        needed = seeds_needed(gain.mean, spread, len(gain.per_seed), num_tests=len(gains))
        found.append(RivalComparison(best, rival, objective.metric, verdict, gain, p_value, needed))
    return found


def _shown(label: MetricLabel, gain: Gain) -> str:
    """A gain as text, such as "+2.1 points (95 % +0.8 to +3.4, 5 seeds)"."""
    unit = "points" if label.unit == "%" else label.unit
    mean, bounds = label.number(gain.mean, signed=True), label.interval(gain.low, gain.high, signed=True)
    num_seeds = len(gain.per_seed)
    interval = f"95 % {bounds}, " if bounds else ""
    return f"{mean} {unit}".rstrip() + f" ({interval}{num_seeds} seed{'s' if num_seeds != 1 else ''})"
