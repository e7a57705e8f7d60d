"""One process's work on a study: claim a group of runs, train it, record what came out, until all is done."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from workbench.config.cells import Cell
from workbench.process import this_host
from workbench.sweeps.forecast import Clock
from workbench.sweeps.leases import Leases
from workbench.sweeps.ledger import Ledger, Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.plan import Group, groups
from workbench.sweeps.replicate import Job, ReplicateTrainer, Stop

# Going on when the study's database cannot be reached for a while.

MOST_TRIES = 8
FIRST_WAIT_S = 1.0


def retry_while_unreachable(step: Callable[[], bool], stop: Stop, say: Callable[[str], None]) -> None:
    """Take steps until one says that there is no more to do, or until asked to stop.

    A step that the database refuses is taken again, after one second, two, four and so on for some two minutes: leases
    are still ours when it comes back, and what was trained is on disk.

    Raises:
        ValueError: it does not come back.
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
                    f"the study's database does not answer ({reason}): what was trained is kept, and the same command "
                    "goes on once it does"
                ) from None
            wait_s = FIRST_WAIT_S * 2 ** (failed - 1)
            say(f"the study's database does not answer ({reason}): trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            continue
        failed = 0
        if not goes_on:
            return


Say = Callable[[str], None]
MAX_DEATHS = 3
WAIT_S = 1.0


@dataclass(frozen=True)
class Claim:
    """Runs that are this worker's to train: the cells of a group, by the trial of each."""

    group: Group
    trials: Mapping[str, Trial]

    @property
    def jobs(self) -> list[Job]:
        return [Job(cell, self.group.seed, self.trials[cell.name].number) for cell in self.group.cells]


@dataclass
class GridWorker:
    """Works through the cells of a grid together with whoever else does.

    Args:
        seeds: those that are asked for; a trial keeps the ones it was queued with.
        at_once: most cells that train together; 0 for as many as share a cohort's settings.
    """

    ledger: Ledger
    leases: Leases
    replicates: ReplicateTrainer
    cells: Sequence[Cell]
    seeds: Sequence[int]
    at_once: int = 0
    say: Say = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _is_waiting: bool = field(init=False, default=False)

    def work(self, stop: Stop) -> None:
        """Train until every cell has ended at every seed, here or elsewhere, or until asked to stop."""
        retry_while_unreachable(lambda: self._step(stop), stop, self.say)

    def _step(self, stop: Stop) -> bool:
        """Train one group, or wait for those of others; False once nothing is pending."""
        pending = self._pending()
        claim = self._claim(pending)
        if claim:
            self._announce(claim, pending)
            self._train(claim, stop)
        elif pending:
            if not self._is_waiting:
                self.say(f"waiting for {len(pending)} runs of {self._others(pending)}")
            time.sleep(WAIT_S)
        self._is_waiting = claim is None
        return bool(pending)

    def _pending(self) -> list[tuple[Trial, int]]:
        """Trials with the seeds that have yet to end; one that has them all is settled on the way.

        A trial that ended with fewer seeds than are asked for now is queued anew with all of them.
        """
        pending = self._unsettled()
        if not pending:
            with self.leases.alone(f"{self.ledger.name}/queue"):
                self.ledger.queue(self.cells, self.seeds)
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

    def _claim(self, pending: Sequence[tuple[Trial, int]]) -> Claim | None:
        """Runs that nobody works on, as many together as may be.

        First those that no worker died over, then those that one died over. Where two did, one of the runs may be
        to blame, and they go apart.
        """
        seeds = sorted({seed for _, seed in pending})
        for most_deaths, at_once in ((0, self.at_once), (1, self.at_once), (math.inf, 1)):
            for group in groups(self.cells, seeds, at_once):
                trials = {trial.name: trial for trial, seed in pending if seed == group.seed}
                taken = [
                    cell
                    for cell in group.cells
                    if cell.name in trials and self._take(trials[cell.name], group.seed, most_deaths)
                ]
                if taken:
                    return Claim(Group(group.seed, tuple(taken)), {cell.name: trials[cell.name] for cell in taken})
        return None

    def _take(self, trial: Trial, seed: int, most_deaths: float) -> bool:
        key = self._key(trial, seed)
        taken = self.leases.take(key, most_deaths=most_deaths)
        if taken is None:
            return False
        is_open = seed not in self.ledger.trial(trial.number).outcomes  # its last owner may just have recorded it
        if is_open and taken.num_deaths >= MAX_DEATHS:
            reason = f"its worker died {taken.num_deaths} times while it trained: out of memory, if nobody killed it"
            self._record(trial, seed, Outcome(run="", host=this_host(), state="failed", reason=reason))
            is_open = False
        if not is_open:
            self.leases.release(key)
        return is_open

    def _train(self, claim: Claim, stop: Stop) -> None:
        seed = claim.group.seed
        keys = {name: self._key(trial, seed) for name, trial in claim.trials.items()}
        self.clock.begin()
        for trial in claim.trials.values():
            self.ledger.begin(trial)
        outcomes = self.replicates.train(claim.jobs, lambda: stop() or not self.leases.holds(keys.values()))
        for job in claim.jobs:
            key, trial = keys[job.cell.name], claim.trials[job.cell.name]
            if not self.leases.holds([key]):
                self.say(f"{job.cell.name}, seed {seed}: silent for too long, another worker has taken it over")
            elif job.cell.name in outcomes:
                self._record(trial, seed, outcomes[job.cell.name])
            self.leases.release(key)
        if not stop():
            self.clock.end(keys)

    def _announce(self, claim: Claim, pending: Sequence[tuple[Trial, int]]) -> None:
        left = self.clock.left(trial.name for trial, _ in pending)
        names = ", ".join(cell.name for cell in claim.group.cells)
        self.say(f"seed {claim.group.seed}: {names} ({len(pending)} runs to go{left})")

    def _record(self, trial: Trial, seed: int, outcome: Outcome) -> None:
        if outcome.state != "finished":
            self.say(f"{trial.name}, seed {seed}: {outcome.state}: {outcome.reason}")
        self.ledger.record(trial, seed, outcome)
        now = self.ledger.trial(trial.number)
        if not now.missing and not now.is_settled:
            self.ledger.settle(now)

    def _key(self, trial: Trial, seed: int) -> str:
        return f"{self.ledger.name}/{trial.number}/{seed}"

    def _others(self, pending: Sequence[tuple[Trial, int]]) -> str:
        owners = {self.leases.owner_of(self._key(trial, seed)) for trial, seed in pending} - {""}
        return ", ".join(sorted(owners)) or "another worker"
