"""Training a group of cells at one seed: read finished runs, resume interrupted ones, start the others."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.config.cells import Cell, as_text, plain
from workbench.config.study import Origin
from workbench.config.toml import load_run_config, read_toml
from workbench.engine.cohort import Cohort
from workbench.engine.device import resolved
from workbench.engine.launch import Launch, launch, relaunch
from workbench.engine.loop import is_out_of_memory
from workbench.engine.resume import Start, start_of
from workbench.events import Event
from workbench.process import this_host
from workbench.runs.directory import MAX_ID_LENGTH, RunDirectory
from workbench.runs.liveness import run_status
from workbench.sweeps.outcome import END, Outcome, outcome_of
from workbench.sweeps.space import settings_of

Watch = Callable[[Iterator[Event], int], Iterable[Event]]
Stop = Callable[[], bool]
MAX_ATTEMPTS = 5
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Job:
    """One cell at one seed, and the number of its trial."""

    cell: Cell
    seed: int
    trial: int


@dataclass(frozen=True)
class JobRun:
    """A job and its run directory, which may not exist yet; ``attempt`` is from 1."""

    job: Job
    run: RunDirectory
    attempt: int


class ReplicateTrainer:
    """Trains the jobs of a study on this machine.

    Args:
        name: name of the study, the prefix of run ids.
        watch: wraps the event iterator of every cohort; also gets its number of steps.
    """

    def __init__(self, name: str, runs_dir: Path, watch: Watch = lambda events, _: events) -> None:
        self.name = name
        self.runs_dir = runs_dir
        self._watch = watch
        self._before: Cohort | None = None

    def train(self, jobs: Sequence[Job], stop: Stop) -> dict[str, Outcome]:
        """The outcome of every job, by cell name; interrupted jobs are missing and can be resumed.

        New jobs train as one cohort, and so do those to resume from the same step. If a cohort runs out of memory or
        fails, its jobs are retried one at a time, so that only the cause fails.

        Raises:
            ValueError: the runs folder has a run of this name with other settings.
        """
        outcomes: dict[str, Outcome] = {}
        left: dict[Start | None, list[JobRun]] = {}
        for job in jobs:
            one = self._run_of(job)
            found = outcome_of(one.run) if one.run.exists else None
            if found and found.state in END:
                outcomes[job.cell.name] = found
            else:
                left.setdefault(start_of(one.run) if one.run.exists else None, []).append(one)
        for cohort in left.values():
            outcomes |= self._train_together(cohort, stop)
        return outcomes

    def _train_together(self, group: Sequence[JobRun], stop: Stop) -> dict[str, Outcome]:
        if stop():
            return {}
        error = self._train_cohort(group, stop)
        if error is None or len(group) == 1:
            return _outcomes(group, error)
        outcomes: dict[str, Outcome] = {}
        for one in group:
            outcomes |= self._train_together([one], stop)
        return outcomes

    def _train_cohort(self, group: Sequence[JobRun], stop: Stop) -> Exception | None:
        """Start new runs or resume existing ones; returns the error that ended them, if any."""
        try:
            started = self._launch(group)
            for _ in self._watch(started.events(stop), started.cohort.total_steps):
                pass
        except FAILURES as error:
            self._before = None  # its state may be the cause
            return error
        self._before = started.cohort
        return None

    def _launch(self, group: Sequence[JobRun]) -> Launch:
        if group[0].run.exists:
            return relaunch(*(one.run for one in group), like=self._before)
        configs = {one.run.id: one.job.cell.at(one.job.seed) for one in group}
        origins = {
            one.run.id: Origin(
                study=self.name,
                cell=one.job.cell.name,
                values=dict(one.job.cell.values),
                seed=one.job.seed,
                trial=one.job.trial,
                attempt=one.attempt,
            )
            for one in group
        }
        return launch(configs, self.runs_dir, self._before, origins)

    def _run_of(self, job: Job) -> JobRun:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            run = RunDirectory(self.runs_dir.absolute() / run_id(self.name, job.cell.name, job.seed, attempt))
            if not run.exists:
                return JobRun(job, run, attempt)
            if why := _why_unreadable(run):
                warnings.warn(f"{why}: {run.id} is kept and trained again as another attempt", stacklevel=2)
                continue
            self._check_same(run, job)
            if run_status(run).state not in ("running", "silent"):
                return JobRun(job, run, attempt)
            # Its process let the lease expire but may resume and write there again: use another run directory.
        raise ValueError(
            f"{MAX_ATTEMPTS} processes lock runs of {job.cell.name}, seed {job.seed}: see workbench runs list"
        )

    def _check_same(self, run: RunDirectory, job: Job) -> None:
        there, wanted = (
            settings_of(resolved(config)) for config in (load_run_config(run.config_file), job.cell.at(job.seed))
        )
        for key in sorted(there.keys() | wanted.keys()):
            if there.get(key) != wanted.get(key):
                was, now = as_text(there.get(key, "not there")), as_text(wanted.get(key, "not there"))
                raise ValueError(
                    f"{run.path} is a run of this name with other settings ({key} is {was} there, {now} here): "
                    f"name this study with --name NEW, or move that run away"
                )


def _why_unreadable(run: RunDirectory) -> str:
    """Why an existing run cannot be read; empty if it can."""
    try:
        read_toml(run.config_file)
        run_status(run)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def run_id(study: str, cell: str, seed: int, attempt: int = 1) -> str:
    """``icl_weight-0.5-s0``; later attempts have a suffix, and truncated names a digest."""
    stem, ending = f"{plain(study)}-{plain(cell)}", f"-s{seed}" + (f"-try{attempt}" if attempt > 1 else "")
    if len(stem) + len(ending) > MAX_ID_LENGTH:
        digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
        stem = f"{stem[: MAX_ID_LENGTH - len(ending) - len(digest) - 1]}-{digest}"
    return stem + ending


def _outcomes(group: Sequence[JobRun], error: Exception | None) -> dict[str, Outcome]:
    """The outcomes of the runs; one that logged no end although an error ended it has failed."""
    found: dict[str, Outcome] = {}
    for one in group:
        outcome = outcome_of(one.run) if one.run.exists else None
        if error is not None and outcome is None:
            outcome = Outcome(run=one.run.id, host=this_host(), state="failed")
        if error is not None and outcome is not None and outcome.state == "failed":
            outcome = outcome.model_copy(update={"reason": _in_one_line(error)})
        if outcome is None and not one.run.exists:  # it existed when training started
            reason = f"its folder {one.run.path} was deleted or moved during training"
            outcome = Outcome(run=one.run.id, host=this_host(), state="failed", reason=reason)
        if outcome is not None:
            found[one.job.cell.name] = outcome
    return found


def _in_one_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"out of memory: {line}" if is_out_of_memory(error) and not line.startswith("out of memory") else line
