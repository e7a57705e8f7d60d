"""The rule of a search to claim runs: an abandoned trial or the next one, seed by seed until racing prunes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.config.cells import Cell, Changes, base_config, check_values, make_cell
from workbench.config.study import Study, flat
from workbench.config.toml import load_recipe
from workbench.statistics.verdict import pooled_spread
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.plan import Group
from workbench.sweeps.replicate import Stop
from workbench.sweeps.space import distributions
from workbench.sweeps.worker import MAX_DEATHS, Claim, Worker

if TYPE_CHECKING:
    import optuna


LEVEL = 0.99  # one-sided; strict, because the best so far is biased by selection and compared with many
LEAST_DF = 4


def should_prune(own: Mapping[int, float], finished: Sequence[Mapping[int, float]], *, maximize: bool) -> bool:
    """Racing: whether a trial is significantly worse than the best finished one on its seeds so far.

    Two trials at one seed share their batches, so their difference is paired; its variance over seeds is pooled over
    all finished trials (see :func:`pooled_spread`). False until they give at least four degrees of freedom.

    Args:
        own, finished: values of the objective by seed.
    """
    spread = pooled_spread({str(number): values for number, values in enumerate(finished)})
    if spread.df < LEAST_DF:
        return False
    sign = 1 if maximize else -1
    best = max(finished, key=lambda values: sign * sum(values.values()) / len(values))
    seeds = [seed for seed in own if seed in best]
    if not seeds:
        return False
    difference = sign * sum(own[seed] - best[seed] for seed in seeds) / len(seeds)
    # The bounds of a two-sided interval at this level are one-sided ones at LEVEL.
    return difference + spread.half_width(len(seeds), 2 * LEVEL - 1) < 0


MOST_FAILURES = 3  # consecutive ones after which a search stops: the next would fail too


@dataclass
class SearchWorker(Worker):
    """Claims the trials of a search, one seed after the other: an abandoned one, or the next queued or sampled one.

    Args:
        asks: whether to sample new configurations, e.g. False after a deadline.
    """

    study: Study
    changes: Changes
    asks: Stop = lambda: True
    _held: "tuple[optuna.Trial, Cell] | None" = field(init=False, default=None)  # leased until its last seed has ended

    def __post_init__(self) -> None:
        self._distributions = distributions(self.study)

    def _claim(self) -> Claim | None:
        while True:
            if self._held and not self.leases.holds([self._key(self._held[0].number)]):
                self._held = None
            if self._held is None:
                # Serialized across workers: otherwise two could enqueue the warm starts twice or exceed the number of
                # trials.
                with self.leases.alone(self.ledger.queue_key):
                    self._queue_warm_starts()
                    trial = self._left_behind() or self._next()
                if trial is None:
                    return None
                self._held = self._begin(trial)
            else:
                handle, cell = self._held
                trial = self.ledger.trial(handle.number)
                if trial.missing and not trial.is_settled:
                    key = self._key(trial.number)
                    return Claim(Group(trial.missing[0], (cell,)), {cell.name: trial}, {cell.name: key})
                self._settle(trial, handle)
                self.leases.release(self._key(trial.number))

    def _left_to_others(self) -> str:
        is_any = any(trial.is_running for trial in self.ledger.trials())
        return "the trials of other workers" if is_any else ""

    def _queue_warm_starts(self) -> None:
        if not self.ledger.trials():
            for recipe in self.study.warm_start:
                values = warm_start(self.study, self.changes, recipe)
                self.ledger.optuna.enqueue_trial(values, user_attrs={"warm_start": recipe})

    def _left_behind(self) -> Trial | None:
        """A running trial without a live worker, leased to this one."""
        for trial in self.ledger.trials():
            if not trial.is_running:
                continue
            key = self._key(trial.number)
            taken = self.leases.take(key)
            if taken is None:
                continue
            now = self.ledger.trial(trial.number)
            if not now.is_settled and taken.num_deaths < MAX_DEATHS:
                return now
            if not now.is_settled:
                self._fail(now, f"its worker died {taken.num_deaths} times: probably out of memory")
            self.leases.release(key)
        return None

    def _next(self) -> Trial | None:
        """The next queued or sampled trial; None if there are enough, or the last ones all failed."""
        trials = self.ledger.trials()
        counted = [trial for trial in trials if trial.is_tried or trial.is_running]
        are_enough = len(counted) >= self.study.trials and not any(trial.is_queued for trial in trials)
        if are_enough or not self.asks():
            return None
        last = self.ledger.trials_since_reset()[-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and all(trial.has_failed for trial in last):
            self.notify(f"the last {MOST_FAILURES} trials failed: stopping; retry with --resume")
            return None
        trial = self.ledger.trial(self.ledger.optuna.ask(self._distributions).number)
        self.leases.take(self._key(trial.number))
        return trial

    def _begin(self, trial: Trial) -> "tuple[optuna.Trial, Cell] | None":
        """The trial with all parameters, and its cell; None if its values are invalid, which fails it."""
        import optuna

        handle = optuna.Trial(self.ledger.optuna, trial.frozen._trial_id)
        for name, distribution in self._distributions.items():
            # Its first worker may have died before all were suggested; those that are stored are returned again.
            handle._suggest(name, distribution)
        name = f"t{trial.number:04d}"
        try:
            cell = make_cell(self.study, name, handle.params, self.changes)
        except ValueError as error:
            self.notify(f"{name}: {error}")
            self._fail(trial, str(error))
            self.leases.release(self._key(trial.number))
            return None
        self.notify(f"{cell.name}: {_shown(cell.values)}{self.clock.left((), self._num_left())}")
        self.ledger.describe(trial, cell, trial.seeds or tuple(range(self.study.seeds)))
        return handle, cell

    def _num_left(self) -> float:
        """Estimated number of remaining runs, at the mean number of seeds per trial so far."""
        trials = self.ledger.trials()
        tried = [trial for trial in trials if trial.is_tried]
        num_seeds = sum(len(trial.outcomes) for trial in tried) / len(tried) if tried else self.study.seeds
        started = sum(len(trial.outcomes) for trial in trials if trial.is_running)
        return max(0.0, (self.study.trials - len(tried)) * num_seeds - started)

    def _record(self, trial: Trial, seed: int, outcome: Outcome) -> bool:
        assert self._held is not None
        handle, _ = self._held
        self.ledger.record(trial, seed, outcome)
        now = self.ledger.trial(trial.number)
        if outcome.state != "finished":
            self._fail_by(now, handle, outcome)
        elif not now.missing:
            self._settle(now, handle)
        else:
            return not self._drops(now, handle)
        return False

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

    def _key(self, number: int) -> str:
        return f"{self.ledger.name}/{number}"


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
