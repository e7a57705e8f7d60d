"""Running a study. START HERE: plan the cells, forecast the cost, open the database, train, read the results."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.config.cells import Cell, as_text, base_config, cells_of, example_cells, parse_values, with_steps
from workbench.config.study import Study, kept_at_lengths
from workbench.errors import unknown
from workbench.preflight.cost import RunForecast, room_mb
from workbench.preflight.precheck import OF_THE_RUN
from workbench.runs.studies import save_copy
from workbench.sweeps.confirm import (
    best_trials,
    cells_ahead,
    check_warm_starts,
    confirming,
    kept_trials,
    longer,
    measured_cells,
    rivals_ahead,
    short_name,
    trials_ahead,
    tuning,
    unbeaten,
)
from workbench.sweeps.leases import Leases
from workbench.sweeps.ledger import Ledger, Trial, has_study, open_ledger
from workbench.sweeps.outcome import END
from workbench.sweeps.plan import Clock, SweepForecast, check_study, groups, make_forecast, measure_costs, most_at_once
from workbench.sweeps.replicate import ReplicateTrainer, Stop, Watch
from workbench.sweeps.request import NO_CHANGES, Request, check_by_hand
from workbench.sweeps.search import SearchWorker
from workbench.sweeps.settle import ended, wanted_seeds
from workbench.sweeps.space import distributions, identity
from workbench.sweeps.storage import default_file, open_storage
from workbench.sweeps.worker import GridWorker, Notify, Worker

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def ignore(_: str) -> None:
    """Discard a message."""


class Sweep:
    """A planned study; :meth:`forecast` estimates its cost without storing anything, :meth:`work` trains.

    Raises:
        ValueError: invalid settings.
    """

    def __init__(self, request: Request, storage: "RDBStorage | None" = None) -> None:
        if request.changes.steps is not None:  # one length for all configurations of a search
            request = replace(request, study=request.study.model_copy(update={"lengths": []}))
        self.request = request
        self.study = request.study
        self.cells: tuple[Cell, ...] = cells_of(request.study, request.changes)
        check_warm_starts(self.study, request.changes)
        check_study(self.study, self.cells or example_cells(self.study, request.changes))
        self._storage = storage
        self._ledger: Ledger | None = None
        self._costs: Mapping[str, RunForecast] = {}
        self._forecast: SweepForecast | None = None

    @property
    def ledger(self) -> Ledger:
        """The study in its database, opened at first use.

        Raises:
            ValueError: the database cannot be used, the study was started with other settings, or does not exist
                although it is to be resumed.
        """
        if self._ledger is None:
            request = self.request
            file = None if request.storage else default_file(request.runs_dir, request.study_name)
            request.check_can_resume()
            storage = self._storage or open_storage(request.storage, file)
            if request.resumes and not has_study(storage, request.study_name):
                raise request.nothing_to_resume()
            base = with_steps(self.study, base_config(self.study, request.changes), request.changes)
            settings = identity(self.study, base, self.cells)
            self._ledger = open_ledger(self.study, request.study_name, storage, settings)
        return self._ledger

    def started_trials(self) -> list[Trial]:
        """The trials in the database; none, without creating it, if the study has not started."""
        request = self.request
        has_started = request.storage or default_file(request.runs_dir, request.study_name).exists()
        return self.ledger.trials() if has_started else []

    def forecast(self, notify: Notify = ignore, *, trials: Sequence[Trial] = ()) -> SweepForecast:
        """Cost of the remaining study, measured on a few steps.

        Args:
            trials: trials already in the database.

        Raises:
            ValueError: settings that training would refuse, or an objective that is not measured.
        """
        cells = measured_cells(self.study, self.request.changes)
        self._costs = measure_costs(groups(cells, self.request.seeds[:1]), self.request.runs_dir, notify)
        self._check_objectives(self._costs)
        self._forecast = self._make_forecast(cells, trials)
        return self._forecast

    def _make_forecast(self, cells: Sequence[Cell], trials: Sequence[Trial]) -> SweepForecast:
        """The forecast from measured costs; also decides how many cells train together."""
        workers, sharing, num_seeds = self.request.workers, self.request.workers_per_device, self.study.seeds
        most = len(self.cells) or max(1, self.study.num_confirmed)
        room = room_mb(cells[0].config.train.device)
        at_once = min(most_at_once(self._costs, room / sharing), self.request.at_once or most)
        if workers > num_seeds and self.cells:  # split the cells of a seed among workers
            at_once = min(at_once, math.ceil(most * num_seeds / workers))
        self.request = replace(self.request, at_once=at_once)
        done = {(trial.name, seed) for trial in trials for seed in trial.outcomes}
        if not self.study.search:
            left = cells_ahead(cells, self.request.seeds, at_once, done)
            return make_forecast(
                left, self._costs, room, num_done=len(done), workers=workers, workers_per_device=sharing
            )
        num_tuned = {recipe: part.ledger.num_tried() for recipe, part in self.started_tunings.items()} if trials else {}
        return make_forecast(
            trials_ahead(self.study, cells[0], self.ledger.num_tried() if trials else 0),
            self._costs,
            room,
            later=list(rivals_ahead(self.study, cells, num_tuned, at_once)),
            num_done=len(done),
            workers=workers,
            workers_per_device=sharing,
        )

    def _check_objectives(self, costs: Mapping[str, RunForecast]) -> None:
        measured = frozenset.intersection(*(cost.metrics for cost in costs.values())) | OF_THE_RUN
        for objective in self.study.objectives:
            if objective.metric not in measured:
                raise unknown("objective", objective.metric, measured)

    def work(
        self, stop: Stop = lambda: False, watch: Watch = lambda events, _: events, notify: Notify = ignore
    ) -> None:
        """Train until everything has ended, on any worker, or until ``stop``."""
        save_copy(self.study, self.request.study_name, self.request.runs_dir)
        end = time.monotonic() + self.request.timeout_s if self.request.timeout_s else math.inf
        with Leases(self.ledger.engine, self.request.grace_s) as leases:
            replicates = ReplicateTrainer(self.request.study_name, self.request.runs_dir, watch)
            self._worker(leases, replicates, notify, end).work(stop)
        is_over = self._are_trials_done or time.monotonic() > end
        for number in range(1, len(self.study.lengths)):
            if is_over and len(stages := self.stages) >= number:
                stages[number - 1].work_as_part(self._costs, stop, watch, notify)
        if self.study.confirm_seeds and is_over and not stop() and self.best:
            self._confirm(stop, watch, notify)

    def _confirm(self, stop: Stop, watch: Watch, notify: Notify) -> None:
        """Tune the rivals, then re-train the best of each on held-out seeds."""
        for part in self.tunings.values():
            part.work_as_part(self._costs, stop, watch, notify)
        if not stop() and (confirmation := self.confirmation):
            confirmation.work_as_part(self._costs, stop, watch, notify)

    def work_as_part(self, costs: Mapping[str, RunForecast], stop: Stop, watch: Watch, notify: Notify) -> None:
        """:meth:`work` as a part of a search, whose measured costs (if any) are reused for the forecast."""
        if stop() or self.is_done:
            return
        notify(self.study.question)
        self._costs = costs
        if costs:
            cells = measured_cells(self.study, self.request.changes)
            self._forecast = self._make_forecast(cells, self.ledger.trials())
        self.work(stop, watch, notify)

    @property
    def stages(self) -> list["Sweep"]:
        """The best configurations of a search at its later lengths; a stage is there once the one before has ended."""
        num_tried, found, before = self.ledger.num_tried(), list[Sweep](), self
        kept = kept_at_lengths(num_tried, len(self.study.lengths))
        for steps, num_kept in zip(self.study.lengths[1:], kept, strict=True):
            best = kept_trials(before.ledger, num_kept)
            if not best or (found and not before.is_done):
                break
            part = longer(self.study, self.request.changes, steps, best)
            before = self._part(part, f"{steps}-steps-of-{num_tried}")
            found.append(before)
        return found

    @property
    def _last_stage(self) -> "Sweep | None":
        """The search at its last length, once that has ended; itself, if it has a single length."""
        stages = [self, *self.stages]
        if len(stages) < max(1, len(self.study.lengths)):
            return None
        return stages[-1] if len(stages) == 1 or stages[-1].is_done else None

    def best_trials(self) -> list[Trial]:
        """The best trials so far; of a search with several lengths, at the last one once that has ended."""
        return best_trials((self._last_stage or self).ledger)

    @property
    def _is_searched(self) -> bool:
        return self._are_trials_done and self._last_stage is not None

    @property
    def _are_trials_done(self) -> bool:
        trials = self.ledger.trials()
        num_tried = sum(trial.is_tried for trial in trials)
        return num_tried >= self.study.trials and not any(trial.is_queued for trial in trials)

    @property
    def tunings(self) -> dict[str, "Sweep"]:
        """The searches that tune the rivals, by recipe, with as many trials as this search has tried."""
        num_tried = self.ledger.num_tried()
        if not (self.study.confirm_seeds and num_tried):
            return {}
        studies = {recipe: tuning(self.study, self.request.changes, recipe, num_tried) for recipe in self.study.tuned}
        return {recipe: self._part(study, short_name(recipe)) for recipe, study in studies.items()}

    @property
    def started_tunings(self) -> dict[str, "Sweep"]:
        """Those of :attr:`tunings` that have started."""
        storage = self.ledger.storage
        return {recipe: part for recipe, part in self.tunings.items() if has_study(storage, part.request.study_name)}

    @property
    def confirmation(self) -> "Sweep | None":
        """The confirmation of the best trials on held-out seeds; None if not requested or the rivals are not tuned."""
        best = self.best_trials() if self.study.confirm_seeds and self._last_stage else []
        started = self.started_tunings
        if not best or len(started) < len(self.study.tuned) or not all(part.is_done for part in started.values()):
            return None
        tuned = {recipe: part.best_trials() for recipe, part in started.items()}
        study = confirming(self.study, self.request.changes, best, tuned)
        return self._part(study, f"best-of-{self.ledger.num_tried()}")

    def _part(self, study: Study, name: str) -> "Sweep":
        """A study that is part of this search, in the same database."""
        request = replace(self.request, study=study, changes=NO_CHANGES, timeout_s=0.0, resumes=False)
        return Sweep(replace(request, name=f"{self.request.study_name}-{name}"), self.ledger.storage)

    def _clock(self) -> Clock:
        workers, forecast = self.request.workers, self._forecast
        if forecast is None:  # one of several workers, which did not measure costs
            return Clock(later_s=self.study.num_later_runs, workers=workers)
        return Clock(forecast.run_s, forecast.later_s, workers)

    def _worker(self, leases: Leases, replicates: ReplicateTrainer, notify: Notify, end: float) -> Worker:
        shared = (self.ledger, leases, replicates, notify, self._clock())

        def may_start() -> bool:
            return time.monotonic() < end

        if not self.study.search:
            return GridWorker(*shared, self.cells, self.wanted_seeds, may_start, self.request.at_once)
        return SearchWorker(*shared, self.study, self.request.changes, may_start)

    def wanted_seeds(self) -> Mapping[str, range]:
        """The seeds of every cell of a grid, as decided by the runs that have ended."""
        # A seed for each worker, so that none is left without a run.
        return wanted_seeds(self.study, self.cells, self.ledger.by_name(), self.request.workers)

    @contextmanager
    def _queueing(self) -> Iterator[None]:
        """Hold the queue's lease, so that no worker queues or samples trials meanwhile."""
        with Leases(self.ledger.engine, self.request.grace_s) as leases, leases.alone(self.ledger.queue_key):
            yield

    def retry(self) -> None:
        """Queue failed and stopped runs again, for all workers."""
        with self._queueing():
            if self.study.search:
                self.ledger.reset_failures()
            else:
                self.ledger.queue(self.cells, self.wanted_seeds(), retries=[cell.name for cell in self.cells])
        stages = [part for part in self.stages if has_study(self.ledger.storage, part.request.study_name)]
        for part in (*stages, *self.started_tunings.values(), self.started_confirmation):
            if part:
                part.retry()

    def queue_values(self, overrides: Sequence[str]) -> str:
        """Queue values (``KEY=VALUE``) for a search, before its next sampled trial; returns them as text.

        The sampler chooses the settings that are left out. The trial replaces a sampled one; a search whose trials are
        done runs it in addition.

        Raises:
            ValueError: the study is not a search or has not started; a setting that is not searched, or a value outside
                the search space.
        """
        check_by_hand(self.study, self.cells, overrides, "")
        known = distributions(self.study)
        values = {
            key: known[key].to_external_repr(known[key].to_internal_repr(value))
            for key, value in parse_values(self.study, overrides).items()
        }
        with self._queueing():
            self.ledger.optuna.enqueue_trial(values, user_attrs={"by hand": True})
        return " ".join(f"{key}={as_text(value)}" for key, value in values.items())

    def queue_again(self, cell: str) -> str:
        """Queue the failed and stopped runs of one cell of a grid, once all its seeds have ended; returns them as text.

        Raises:
            ValueError: the study is a search or has not started; no such cell, or none of its runs failed or was
                stopped.
        """
        check_by_hand(self.study, self.cells, (), cell)
        with self._queueing():
            trial = self.ledger.by_name().get(cell)
            outcomes = trial.outcomes if trial and trial.is_settled else {}
            seeds = [seed for seed, outcome in outcomes.items() if outcome.state not in END]
            if not seeds:
                raise ValueError(
                    f"cell '{cell}' has no failed or stopped run: finished and diverged runs would end the same way, "
                    f"and missing ones are trained by workbench sweep"
                )
            self.ledger.queue(self.cells, self.wanted_seeds(), retries=[cell])
        return f"{cell} at seed {', '.join(map(str, seeds))}"

    @property
    def trials(self) -> list[Trial]:
        """The trials of the cells, in the study's order; for a search, those that have started."""
        if self.study.search:
            return [trial for trial in self.ledger.trials() if trial.outcomes or trial.is_settled]
        newest = self.ledger.by_name()
        return [newest[cell.name] for cell in self.cells if cell.name in newest]

    @property
    def started_confirmation(self) -> "Sweep | None":
        """The confirmation, if it has started."""
        found = self.confirmation
        return found if found and has_study(self.ledger.storage, found.request.study_name) else None

    @property
    def best(self) -> list[str]:
        """Names of the best trials."""
        return [trial.name for trial in self.best_trials()]

    @property
    def unbeaten(self) -> list[str]:
        """Names of the warm starts that no trial beats on the validation pairs."""
        return [short_name(recipe) for recipe in unbeaten(self.study, self.request.changes, self.best_trials())]

    @property
    def is_done(self) -> bool:
        """Whether all requested runs have ended."""
        if self.study.search:
            return self._is_searched and (not self.study.confirm_seeds or not self.best or self._is_confirmed)
        newest = self.ledger.by_name()
        return all(set(seeds) <= ended(newest.get(cell)) for cell, seeds in self.wanted_seeds().items())

    @property
    def _is_confirmed(self) -> bool:
        confirmation = self.started_confirmation
        return confirmation is not None and confirmation.is_done
