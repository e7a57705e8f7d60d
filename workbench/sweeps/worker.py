"""Workers claim runs that train together, train them, record the outcomes, and repeat until all is done.

The rule of a grid to claim runs is here, that of a search in search.py.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from workbench.config.cells import Cell
from workbench.process import this_host
from workbench.sweeps.leases import Leases
from workbench.sweeps.ledger import Ledger, Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.plan import Clock, Group, groups
from workbench.sweeps.replicate import Job, ReplicateTrainer, Stop

MOST_TRIES = 8
FIRST_WAIT_S = 1.0


def retry_while_unreachable(step: Callable[[], bool], stop: Stop, notify: Callable[[str], None]) -> None:
    """Repeat ``step`` until it returns False or ``stop`` returns True.

    A step with a database error is retried with exponential backoff for about two minutes; leases survive that long,
    and results are on disk.

    Raises:
        ValueError: the database stays unreachable.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    failed = 0
    while not stop():
        try:
            goes_on = step()
        except (DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ or error
            reason = str(getattr(cause, "orig", cause)).strip().splitlines()[0]
            failed += 1
            if failed == MOST_TRIES:
                raise ValueError(
                    f"the study's database is unreachable ({reason}): results so far are kept; repeat the command to "
                    "continue"
                ) from None
            wait_s = FIRST_WAIT_S * 2 ** (failed - 1)
            notify(f"the study's database is unreachable ({reason}): retrying in {wait_s:.0f} s")
            time.sleep(wait_s)
            continue
        failed = 0
        if not goes_on:
            return


Notify = Callable[[str], None]
MAX_DEATHS = 3  # workers that may die over a run before it counts as failed
WAIT_S = 1.0


@dataclass(frozen=True)
class Claim:
    """Runs leased by this worker: a group of cells, and the trial of each by name, with the key of its lease."""

    group: Group
    trials: Mapping[str, Trial]
    keys: Mapping[str, str]

    @property
    def jobs(self) -> list[Job]:
        return [Job(cell, self.group.seed, self.trials[cell.name].number) for cell in self.group.cells]


@dataclass
class Worker(ABC):
    """Works through a study, together with any other workers; subclasses decide what to claim next."""

    ledger: Ledger
    leases: Leases
    replicates: ReplicateTrainer
    notify: Notify
    clock: Clock
    _is_waiting: bool = field(init=False, default=False)

    def work(self, stop: Stop) -> None:
        """Train until everything has ended, on any worker, or until ``stop``."""
        retry_while_unreachable(lambda: self._step(stop), stop, self.notify)

    @abstractmethod
    def _claim(self) -> Claim | None:
        """Lease the next runs and announce them; None if there is nothing to lease."""

    @abstractmethod
    def _left_to_others(self) -> str:
        """What other workers are still training, in words; empty if everything has ended."""

    @abstractmethod
    def _record(self, trial: Trial, seed: int, outcome: Outcome) -> bool:
        """Store the outcome of a run; returns whether the lease is kept for another run of the trial."""

    def _step(self, stop: Stop) -> bool:
        """Train one group, or wait for other workers; False once nothing is left."""
        claim = self._claim()
        if claim:
            self._train(claim, stop)
        elif others := self._left_to_others():
            if not self._is_waiting:
                self.notify(f"waiting for {others}")
            time.sleep(WAIT_S)
        else:
            return False
        self._is_waiting = claim is None
        return True

    def _train(self, claim: Claim, stop: Stop) -> None:
        seed, keys = claim.group.seed, claim.keys
        self.clock.start()
        for trial in claim.trials.values():
            self.ledger.mark_running(trial)
        outcomes = self.replicates.train(claim.jobs, lambda: stop() or not self.leases.holds(keys.values()))
        # An interrupted group would distort the forecast's correction.
        if not stop():
            self.clock.stop(keys)
        for name, key in keys.items():
            is_kept = False
            if not self.leases.holds([key]):
                self.notify(f"{name}, seed {seed}: heartbeat timed out; reassigned to another worker")
            elif name in outcomes:
                is_kept = self._record(claim.trials[name], seed, outcomes[name])
            if not is_kept:
                self.leases.release(key)


@dataclass
class GridWorker(Worker):
    """Claims the largest group of a grid's cells that train together at one seed.

    Args:
        wanted: the seeds of every cell, given the newest trials; a queued trial keeps its own.
        may_start: whether runs may still be started.
        at_once: maximum number of cells that train together; 0 for all with the same cohort settings.
    """

    cells: Sequence[Cell]
    wanted: Callable[[], Mapping[str, range]]
    may_start: Callable[[], bool] = lambda: True
    at_once: int = 0

    def _claim(self) -> Claim | None:
        """Lease the largest group of runs without a worker.

        First runs with no dead worker, then with one. After two dead workers, runs train one at a time, since one of a
        group may be the cause.
        """
        pending = self._pending() if self.may_start() else []
        seeds = sorted({seed for _, seed in pending})
        # A group is leased run by run; runs that another worker holds are simply not part of it.
        for most_deaths, at_once in ((0, self.at_once), (1, self.at_once), (math.inf, 1)):
            for group in groups(self.cells, seeds, at_once):
                trials = {trial.name: trial for trial, seed in pending if seed == group.seed}
                taken = [
                    cell
                    for cell in group.cells
                    if cell.name in trials and self._take(trials[cell.name], group.seed, most_deaths)
                ]
                if taken:
                    left = self.clock.left(trial.name for trial, _ in pending)
                    names = ", ".join(cell.name for cell in taken)
                    self.notify(f"seed {group.seed}: {names} ({len(pending)} runs left{left})")
                    mine = {cell.name: trials[cell.name] for cell in taken}
                    keys = {name: self._key(trial, group.seed) for name, trial in mine.items()}
                    return Claim(Group(group.seed, tuple(taken)), mine, keys)
        return None

    def _left_to_others(self) -> str:
        pending = self._pending() if self.may_start() else []
        owners = {self.leases.owner_of(self._key(trial, seed)) for trial, seed in pending} - {""}
        return f"{len(pending)} runs of {', '.join(sorted(owners)) or 'another worker'}" if pending else ""

    def _pending(self) -> list[tuple[Trial, int]]:
        """(trial, seed) of every run that has not ended; settles trials with all seeds.

        A trial that ended with fewer seeds than requested is queued again with all of them.
        """
        pending = self._unsettled()
        if not pending:
            with self.leases.alone(self.ledger.queue_key):
                self.ledger.queue(self.cells, self.wanted())
            pending = self._unsettled()
        return pending

    def _unsettled(self) -> list[tuple[Trial, int]]:
        pending = []
        newest = self.ledger.by_name()
        for trial in (newest[cell.name] for cell in self.cells if cell.name in newest):
            if trial.is_settled:
                continue
            if not trial.missing:
                self.ledger.settle(trial)
            pending += [(trial, seed) for seed in trial.missing]
        return pending

    def _take(self, trial: Trial, seed: int, most_deaths: float) -> bool:
        key = self._key(trial, seed)
        taken = self.leases.take(key, most_deaths=most_deaths)
        if taken is None:
            return False
        is_open = seed not in self.ledger.trial(trial.number).outcomes  # the last owner may just have recorded it
        if is_open and taken.num_deaths >= MAX_DEATHS:
            reason = f"its worker died {taken.num_deaths} times during training: probably out of memory"
            self._record(trial, seed, Outcome(run="", host=this_host(), state="failed", reason=reason))
            is_open = False
        if not is_open:
            self.leases.release(key)
        return is_open

    def _record(self, trial: Trial, seed: int, outcome: Outcome) -> bool:
        if outcome.state != "finished":
            self.notify(f"{trial.name}, seed {seed}: {outcome.state}: {outcome.reason}")
        self.ledger.record(trial, seed, outcome)
        now = self.ledger.trial(trial.number)
        if not now.missing and not now.is_settled:
            self.ledger.settle(now)
        return False

    def _key(self, trial: Trial, seed: int) -> str:
        return f"{self.ledger.name}/{trial.number}/{seed}"
