"""The trials of a study in its database: queued, recorded per seed, and settled.

A trial is a configuration at several seeds. Runs are the source of truth; outcomes are copied to the trial so that
machines without a shared runs folder see each other's results.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from workbench.config.cells import Cell
from workbench.config.study import Study
from workbench.sweeps.outcome import END, Outcome
from workbench.sweeps.space import difference, distributions, parameters

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy import Engine

IDENTITY = "workbench"
FORGIVEN = "workbench forgiven"
NAME, SEEDS, SEED, STATE = "name", "seeds", "seed", "outcome"


@dataclass(frozen=True)
class Trial:
    """A trial as currently stored. ``outcomes``: those known so far, by seed."""

    number: int
    name: str
    values: Mapping[str, Any]
    seeds: tuple[int, ...]
    outcomes: Mapping[int, Outcome]
    is_settled: bool
    state: str
    frozen: "FrozenTrial" = field(repr=False)

    @property
    def is_tried(self) -> bool:
        """Whether it counts towards the number of trials of a search: it completed or was pruned."""
        return self.frozen.state.name in ("COMPLETE", "PRUNED")

    @property
    def is_queued(self) -> bool:
        """Whether no worker has started it."""
        return self.frozen.state.name == "WAITING"

    @property
    def is_running(self) -> bool:
        """Whether a worker has started it, which may have died since."""
        return self.frozen.state.name == "RUNNING"

    @property
    def has_failed(self) -> bool:
        """Whether it has no result and may be retried."""
        return self.frozen.state.name == "FAIL"

    @property
    def finished(self) -> dict[int, Outcome]:
        """Outcomes of finished runs, by seed."""
        return {seed: outcome for seed, outcome in self.outcomes.items() if outcome.state == "finished"}

    @property
    def missing(self) -> tuple[int, ...]:
        """Seeds that have not ended."""
        return tuple(seed for seed in self.seeds if seed not in self.outcomes)

    @property
    def shown_state(self) -> str:
        """The state of its first run that did not finish, or else its own."""
        ends = [outcome.state for outcome in self.outcomes.values() if outcome.state != "finished"]
        if ends:
            return ends[0]
        return self.state if self.is_settled else ("unfinished" if self.outcomes else "waiting")


class Ledger:
    """One study in one database."""

    def __init__(self, study: Study, name: str, optuna_study: "optuna.Study", storage: "RDBStorage") -> None:
        self.study = study
        self.name = name
        self.optuna = optuna_study
        self.storage = storage

    @property
    def engine(self) -> "Engine":
        """The connection to the database."""
        return self.storage.engine

    @property
    def queue_key(self) -> str:
        """The lease to hold while queuing or sampling trials."""
        return f"{self.name}/queue"

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return [_read(frozen) for frozen in self.optuna.get_trials(deepcopy=False)]

    def num_tried(self) -> int:
        """Number of trials that count towards a search's."""
        return sum(trial.is_tried for trial in self.trials())

    def trial(self, number: int) -> Trial:
        """One trial as currently stored."""
        identity = self.storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)
        return _read(self.storage.get_trial(identity))

    def by_name(self) -> dict[str, Trial]:
        """The latest trial of every cell, by cell name."""
        return {trial.name: trial for trial in self.trials()}

    def queue(
        self, cells: Sequence[Cell], wanted: Mapping[str, Sequence[int]], *, retries: Collection[str] = ()
    ) -> None:
        """Queue missing trials: of cells without one or with fewer seeds. Call it while holding the queue lease.

        Args:
            wanted: seeds by cell.
            retries: names of cells whose failed or stopped runs are resumed.
        """
        from optuna.trial import TrialState, create_trial

        newest = self.by_name()
        space = distributions(self.study, cells)
        for cell in cells:
            known = _kept(newest.get(cell.name), cell.name in retries)
            if known is not None and (not known.is_settled or not set(wanted[cell.name]) - known.outcomes.keys()):
                continue
            outcomes = known.outcomes if known else {}
            seeds = sorted({*wanted[cell.name], *outcomes})
            queued = create_trial(
                state=TrialState.WAITING,
                params=parameters(self.study, cell),
                distributions=space,
                user_attrs=_attributes(cell, seeds, outcomes),
            )
            self.optuna.add_trial(queued)

    def trials_since_reset(self) -> list[Trial]:
        """The trials since the last :meth:`forgive`."""
        return self.trials()[self._num_reset :]

    def reset_failures(self) -> None:
        """Retry failed trials as new ones, and reset the count of failures. Call it while holding the queue lease."""
        trials = self.trials_since_reset()
        for trial in trials:
            if trial.has_failed:
                self.optuna.enqueue_trial(trial.frozen.params)
        self.optuna.set_user_attr(FORGIVEN, self._num_reset + len(trials))

    @property
    def _num_reset(self) -> int:
        return int(self.optuna.user_attrs.get(FORGIVEN, 0))

    def mark_running(self, trial: Trial) -> None:
        """Mark a trial as running in Optuna; the lease decides which worker runs it."""
        from optuna.trial import TrialState

        if trial.frozen.state == TrialState.WAITING:
            self.storage.set_trial_state_values(trial.frozen._trial_id, TrialState.RUNNING)

    def describe(self, trial: Trial, cell: Cell, seeds: Sequence[int]) -> None:
        """Store the name, values and seeds of a sampled trial."""
        for key, value in _attributes(cell, seeds, {}).items():
            self.storage.set_trial_user_attr(trial.frozen._trial_id, key, value)

    def record(self, trial: Trial, seed: int, outcome: Outcome) -> None:
        """Copy the outcome of a run to its trial."""
        self.storage.set_trial_user_attr(trial.frozen._trial_id, f"{SEED} {seed}", _plain(outcome))

    def settle(self, trial: Trial) -> None:
        """Complete or fail a trial whose seeds have all ended; no effect if another worker settled it."""
        from optuna.trial import TrialState

        values, reason = self.values(trial)
        if values is None:
            self.end(trial, TrialState.FAIL, reason)
        else:
            self.end(trial, TrialState.COMPLETE, "finished", values)

    def values(self, trial: Trial) -> tuple[list[float] | None, str]:
        """(mean of every objective over the seeds, ""), or (None, reason)."""
        bad = [outcome for outcome in trial.outcomes.values() if outcome.state != "finished"]
        if bad:
            return None, bad[0].state
        means = []
        for objective in self.study.objectives:
            found = [outcome.value(objective.metric) for outcome in trial.outcomes.values()]
            numbers = [value for value in found if value is not None and math.isfinite(value)]
            if len(numbers) < len(found):
                return None, f"{objective.metric} was not measured"
            means.append(sum(numbers) / len(numbers))
        return means, ""

    def explain(self, trial: Trial, reason: str) -> None:
        """Store why a trial has no result."""
        self.storage.set_trial_user_attr(trial.frozen._trial_id, "reason", reason)

    def end(self, trial: Trial, state: "TrialState", word: str, values: Sequence[float] | None = None) -> None:
        """Store the final state of a trial in Optuna."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.storage.set_trial_user_attr(trial.frozen._trial_id, STATE, word)
            self.mark_running(trial)  # Optuna refuses to tell a waiting trial
            self.optuna.tell(trial.number, values, state)
        except (ValueError, UpdateFinishedTrialError):  # another worker took the trial over and ended it
            return


def open_ledger(study: Study, name: str, storage: "RDBStorage", identity: Mapping[str, Any]) -> Ledger:
    """The study in the database, created if missing.

    Raises:
        ValueError: it exists with other settings.
    """
    import optuna

    from workbench.sweeps.space import make_sampler

    directions = [objective.direction for objective in study.objectives]
    sampler = make_sampler(study)
    try:
        opened = optuna.create_study(study_name=name, storage=storage, directions=directions, sampler=sampler)
        opened.set_user_attr(IDENTITY, dict(identity))
        return Ledger(study, name, opened, storage)
    except optuna.exceptions.DuplicatedStudyError:
        pass
    opened = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    _check_same(opened, name, identity)
    return Ledger(study, name, opened, storage)


def has_study(storage: "RDBStorage", name: str) -> bool:
    """Whether the database has a study of this name."""
    return any(study.study_name == name for study in storage.get_all_studies())


def _check_same(opened: "optuna.Study", name: str, identity: Mapping[str, Any]) -> None:
    before = opened.user_attrs.get(IDENTITY)
    if before is None:
        if opened.get_trials(deepcopy=False):
            raise ValueError(f"study '{name}' in this database is not a workbench study: choose another --name")
        opened.set_user_attr(IDENTITY, dict(identity))  # its creator died before storing it
        return
    if changes := difference(before, dict(identity)):
        raise ValueError(f"study '{name}' was started with other settings: {changes}; restore them, or use --name NEW")


def _attributes(cell: Cell, seeds: Iterable[int], outcomes: Mapping[int, Outcome]) -> dict[str, Any]:
    known = {f"{SEED} {seed}": _plain(outcome) for seed, outcome in outcomes.items()}
    return {NAME: cell.name, "values": dict(cell.values), SEEDS: list(seeds), **known}


def _kept(trial: Trial | None, retries: bool) -> Trial | None:
    """The trial with the outcomes that a retry keeps."""
    if trial is None or not retries or not trial.is_settled:
        return trial
    kept = {seed: outcome for seed, outcome in trial.outcomes.items() if outcome.state in END}
    return Trial(trial.number, trial.name, trial.values, trial.seeds, kept, True, trial.state, trial.frozen)


def _plain(outcome: Outcome) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(outcome.model_dump_json())
    return document


def _read(frozen: "FrozenTrial") -> Trial:
    attributes = frozen.user_attrs
    seeds = tuple(attributes.get(SEEDS, ()))
    return Trial(
        number=frozen.number,
        name=attributes.get(NAME, f"t{frozen.number:04d}"),
        values=attributes.get("values", frozen.params),
        seeds=seeds,
        outcomes={seed: found for seed in seeds if (found := _outcome(attributes.get(f"{SEED} {seed}")))},
        is_settled=frozen.state.is_finished(),
        state=attributes.get(STATE, frozen.state.name.lower()),
        frozen=frozen,
    )


def _outcome(document: Any) -> Outcome | None:
    try:
        return None if document is None else Outcome.model_validate(document)
    except ValidationError:  # written by a later version
        return None
