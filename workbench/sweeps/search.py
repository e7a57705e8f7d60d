"""A worker on a search: take over abandoned trials or sample the next configuration, and train it seed by seed."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.config.cells import Cell, Changes, base_config, check_values, make_cell
from workbench.config.study import Study, flat
from workbench.config.toml import load_recipe
from workbench.sweeps.forecast import Clock
from workbench.sweeps.leases import Leases
from workbench.sweeps.ledger import Ledger, Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.replicate import Job, ReplicateTrainer, Stop
from workbench.sweeps.space import distributions
from workbench.sweeps.worker import MAX_DEATHS, WAIT_S, Notify, retry_while_unreachable

if TYPE_CHECKING:
    import optuna


# Racing: after each seed, prune a configuration that is unlikely to beat the best one.
#
# Two configurations at one seed share their batches, so their difference is paired. Its variance over seeds is
# estimated from all finished trials: with v[t, s] the objective of trial t at seed s,
#
#     v[t, s] = trial[t] + seed[s] + residual[t, s],        s² = Σ residual² / ((T - 1)(S - 1))
#
# and after k seeds a trial is pruned if  mean difference to the best + t((T-1)(S-1)) · √(2 s² / k)  is below 0.

LEVEL = 0.99  # one-sided; strict, because the best so far is biased by selection and compared with many
LEAST_DF = 4

BySeed = Mapping[int, float]


def residual_spread(finished: Sequence[BySeed]) -> tuple[float, int]:
    """(s, degrees of freedom) of the residuals of the two-way model above, over the seeds that all trials share."""
    if not finished:
        return math.nan, 0
    seeds = sorted(set.intersection(*(set(values) for values in finished)))
    value_TS = np.array([[values[seed] for seed in seeds] for values in finished])
    df = max(0, (len(finished) - 1) * (len(seeds) - 1))
    if not df:
        return math.nan, 0
    # Remove trial and seed effects (two-way centering); what is left is noise that pairing does not cancel.
    residual_TS = value_TS - value_TS.mean(1, keepdims=True) - value_TS.mean(0, keepdims=True) + value_TS.mean()
    return math.sqrt(float((residual_TS**2).sum()) / df), df


def should_prune(own: BySeed, finished: Sequence[BySeed], *, maximize: bool) -> bool:
    """Whether the trial is significantly worse than the best finished one on the seeds so far.

    False until the finished trials give at least four degrees of freedom for the variance.
    """
    from scipy.special import stdtrit

    spread, df = residual_spread(finished)
    if df < LEAST_DF or not own:
        return False
    sign = 1 if maximize else -1
    best = max(finished, key=lambda values: sign * sum(values.values()) / len(values))
    seeds = [seed for seed in own if seed in best]
    if not seeds:
        return False
    difference = sign * sum(own[seed] - best[seed] for seed in seeds) / len(seeds)
    reach = float(stdtrit(df, LEVEL)) * spread * math.sqrt(2 / len(seeds))
    return difference + reach < 0


MOST_FAILURES = 3  # consecutive ones after which a search stops: the next would fail too


@dataclass
class SearchWorker:
    """Trains the configurations of a search, together with any other workers.

    Args:
        asks: whether to sample new configurations, e.g. False after a deadline.
    """

    study: Study
    changes: Changes
    ledger: Ledger
    leases: Leases
    replicates: ReplicateTrainer
    asks: Stop = lambda: True
    notify: Notify = lambda _: None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._distributions = distributions(self.study)
        self._is_waiting = False

    def work(self, stop: Stop) -> None:
        """Train configurations until the study's number of trials has ended, or until ``stop``."""
        retry_while_unreachable(lambda: self._step(stop), stop, self.notify)

    def _step(self, stop: Stop) -> bool:
        """Train one configuration, or wait for other workers; False once none is left."""
        # Serialized across workers: otherwise two could enqueue the warm starts twice or exceed the number of trials.
        with self.leases.alone(f"{self.ledger.name}/queue"):
            self._queue_warm_starts()
            trial = self._left_behind() or self._next()
        if trial is not None:
            self._try(trial, stop)
        elif not any(self._is_open(other) for other in self.ledger.trials()):
            return False
        else:
            if not self._is_waiting:
                self.notify("waiting for the trials of other workers")
            time.sleep(WAIT_S)
        self._is_waiting = trial is None
        return True

    def _queue_warm_starts(self) -> None:
        if not self.ledger.trials():
            for recipe in self.study.warm_start:
                values = warm_start(self.study, self.changes, recipe)
                self.ledger.optuna.enqueue_trial(values, user_attrs={"warm_start": recipe})

    def _left_behind(self) -> Trial | None:
        """A running trial without a live worker, leased to this one."""
        for trial in self.ledger.trials():
            if not self._is_open(trial):
                continue
            taken = self.leases.take(self._key(trial))
            if taken is None:
                continue
            now = self.ledger.trial(trial.number)
            if now.is_settled:
                self.leases.release(self._key(trial))
            elif taken.num_deaths >= MAX_DEATHS:
                self._fail(now, f"its worker died {taken.num_deaths} times: probably out of memory")
                self.leases.release(self._key(trial))
            else:
                return now
        return None

    def _next(self) -> Trial | None:
        """The next queued or sampled trial; None if there are enough, or the last ones all failed."""
        trials = self.ledger.trials()
        counted = [trial for trial in trials if trial.is_tried or trial.frozen.state.name == "RUNNING"]
        are_enough = len(counted) >= self.study.trials and not any(trial.is_queued for trial in trials)
        if are_enough or not self.asks():
            return None
        last = self.ledger.trials_since_reset()[-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and all(trial.has_failed for trial in last):
            self.notify(f"the last {MOST_FAILURES} trials failed: stopping; retry with --resume")
            return None
        number = self.ledger.optuna.ask(self._distributions).number
        trial = self.ledger.trial(number)
        self.leases.take(self._key(trial))
        return trial

    def _try(self, trial: Trial, stop: Stop) -> None:
        key = self._key(trial)
        handle = self._complete(trial)
        cell = self._cell(trial, dict(handle.params))
        if cell is not None:
            self.notify(f"{cell.name}: {_shown(cell.values)}{self.clock.left((), self._num_left())}")
            seeds = trial.seeds or tuple(range(self.study.seeds))
            self.ledger.describe(trial, cell, seeds)
            self._try_seeds(self.ledger.trial(trial.number), handle, cell, stop)
        self.leases.release(key)

    def _num_left(self) -> float:
        """Estimated number of remaining runs, at the mean number of seeds per trial so far."""
        trials = self.ledger.trials()
        tried = [trial for trial in trials if trial.is_tried]
        num_seeds = sum(len(trial.outcomes) for trial in tried) / len(tried) if tried else self.study.seeds
        started = sum(len(trial.outcomes) for trial in trials if self._is_open(trial))
        return max(0.0, (self.study.trials - len(tried)) * num_seeds - started)

    def _complete(self, trial: Trial) -> "optuna.Trial":
        """The trial with all parameters suggested; its first worker may have died before finishing that."""
        import optuna

        handle = optuna.Trial(self.ledger.optuna, trial.frozen._trial_id)
        for name, distribution in self._distributions.items():
            handle._suggest(name, distribution)  # idempotent: returns values that are already stored
        return handle

    def _cell(self, trial: Trial, values: Mapping[str, Any]) -> Cell | None:
        name = f"t{trial.number:04d}"
        try:
            return make_cell(self.study, name, values, self.changes)
        except ValueError as error:
            self.notify(f"{name}: {error}")
            self._fail(trial, str(error))
            return None

    def _try_seeds(self, trial: Trial, handle: "optuna.Trial", cell: Cell, stop: Stop) -> None:
        key = self._key(trial)
        for seed in trial.missing:
            job = Job(cell, seed, trial.number)
            self.clock.start()
            outcomes = self.replicates.train([job], lambda: stop() or not self.leases.holds([key]))
            if not self.leases.holds([key]):
                self.notify(f"{cell.name}: heartbeat timed out; reassigned to another worker")
                return
            if cell.name not in outcomes:  # interrupted
                return
            self.clock.stop([cell.name])
            self.ledger.record(trial, seed, outcomes[cell.name])
            trial = self.ledger.trial(trial.number)
            if outcomes[cell.name].state != "finished":
                self._fail_by(trial, handle, outcomes[cell.name])
                return
            if trial.missing and self._drops(trial, handle):
                return
        self._settle(trial, handle)

    def _fail_by(self, trial: Trial, handle: "optuna.Trial", outcome: Outcome) -> None:
        """End the trial after a failed seed. The sampler learns from divergence, not from other failures."""
        from optuna.trial import TrialState

        self.notify(f"{trial.name}: {outcome.state}: {outcome.reason}")
        if outcome.state == "diverged":
            handle.set_constraint("diverged", 1.0)
            self.ledger.end(trial, TrialState.PRUNED, "diverged")
        else:
            self.ledger.end(trial, TrialState.FAIL, outcome.state)

    def _drops(self, trial: Trial, handle: "optuna.Trial") -> bool:
        """Whether racing prunes the trial before its last seed."""
        from optuna.trial import TrialState

        if len(self.study.objectives) > 1:
            return False
        (objective,) = self.study.objectives
        own = by_seed(trial, objective.metric)
        if len(own) - 1 not in trial.frozen.intermediate_values and own:
            handle.report(sum(own.values()) / len(own), step=len(own) - 1)  # for Optuna's dashboards
        if self.study.pruner != "racing":
            return False
        complete = [other for other in self.ledger.trials() if other.frozen.state == TrialState.COMPLETE]
        finished = [by_seed(other, objective.metric) for other in complete if is_feasible(other)]
        if not should_prune(own, finished, maximize=objective.direction == "maximize"):
            return False
        self.notify(f"{trial.name}: pruned after {len(own)} of {len(trial.seeds)} seeds: worse than the best")
        self.ledger.end(trial, TrialState.PRUNED, "dropped")
        return True

    def _settle(self, trial: Trial, handle: "optuna.Trial") -> None:
        for name, most in self.study.budget.items():
            values = by_seed(trial, name).values()
            if values:
                handle.set_constraint(name, sum(values) / len(values) - most)
        self.ledger.settle(trial)

    def _fail(self, trial: Trial, reason: str) -> None:
        from optuna.trial import TrialState

        self.ledger.explain(trial, reason)
        self.ledger.end(trial, TrialState.FAIL, "failed")

    @staticmethod
    def _is_open(trial: Trial) -> bool:
        return trial.frozen.state.name == "RUNNING"

    def _key(self, trial: Trial) -> str:
        return f"{self.ledger.name}/{trial.number}"


def by_seed(trial: Trial, metric: str) -> dict[int, float]:
    """An objective's value by seed, of finished seeds."""
    found = {seed: outcome.value(metric) for seed, outcome in trial.finished.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def is_feasible(trial: Trial) -> bool:
    """Whether the trial satisfies all constraints."""
    return all(value <= 0 for value in trial.frozen.constraints.values())


def warm_start(study: Study, changes: Changes, recipe: str) -> dict[str, Any]:
    """A recipe's values of the searched settings; those it lacks come from the study's base config.

    Raises:
        ValueError: a value is missing in both, or outside the search space.
    """
    base = flat(base_config(study, changes).model_dump(mode="json"))
    known = base | flat(load_recipe(recipe).model_dump(mode="json"))
    values = {}
    for key in study.search:
        if key not in known:
            raise ValueError(f"warm start from {recipe}: neither it nor the study's base has {key}")
        values[key] = known[key]
    try:
        check_values(study, values)
    except ValueError as error:
        raise ValueError(f"warm start from {recipe}: {error}") from None
    return values


def _shown(values: Mapping[str, Any]) -> str:
    shown = ((key, f"{value:.4g}" if isinstance(value, float) else value) for key, value in values.items())
    return ", ".join(f"{key}={value}" for key, value in shown)
