"""Start and resume recorded runs: directories, locks, the cohort, and the log."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tomli_w

from workbench.config.run import RunConfig
from workbench.config.study import Origin
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.device import machine_facts, resolve_device, resolved
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.loop import train
from workbench.engine.resume import check_moved, check_unchanged, remarks
from workbench.engine.settings import moved, moved_before, record_move
from workbench.engine.start_checks import start_warnings
from workbench.events import Event
from workbench.process import this_host
from workbench.resources import code_sha256
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import RunLock, take_commands
from workbench.runs.summary import record

Interrupted = Callable[[], bool]


class Launch:
    """Runs with directories, ready to train; iterate :meth:`events` to train and record them."""

    def __init__(self, cohort: Cohort, directories: Mapping[str, RunDirectory], locks: ExitStack) -> None:
        self.cohort = cohort
        self.directories = directories
        self._locks = locks

    def events(self, interrupted: Interrupted = lambda: False) -> Iterator[Event]:
        """Train; each event is in the run's log before it is yielded. Locks are held until the end."""
        with self._locks:
            yield from record(train(self.cohort, interrupted), self.directories)


@dataclass(frozen=True)
class Order:
    """What every rank needs to build the same cohort as rank 0."""

    configs: Mapping[str, RunConfig]
    directories: Mapping[str, Path]
    runs_dir: Path
    resume: bool


def train_along(ranks: Ranks, interrupted: Interrupted = lambda: False) -> None:
    """Train the runs that rank 0 launches or relaunches, without writing or reporting anything.

    A new run's folder need not be on this machine, a resumed one's must be: every rank reads the checkpoint.

    Raises:
        ValueError: this rank cannot open the data, the teacher or the checkpoints.
        RuntimeError: another rank has ended.
    """
    order = ranks.of_first(cast(Order, None))
    directories = {run: RunDirectory(path) for run, path in order.directories.items()}
    for directory in directories.values():
        if order.resume and directory.identity is None:
            raise ValueError(
                f"rank {ranks.rank} on {this_host()} cannot read {directory.path}, from which the run goes on: share "
                "the runs folder between the machines, or copy this run there"
            )
    cohort = build_cohort(order.configs, directories, runs_dir=order.runs_dir, resume=order.resume, ranks=ranks)
    for _ in train(cohort, interrupted):
        pass


def launch(
    configs: Mapping[str, RunConfig],
    runs_dir: Path,
    like: Cohort | None = None,
    origins: Mapping[str, Origin] | None = None,
    ranks: Ranks = ALONE,
) -> Launch:
    """Create the runs in ``configs``, by id, as one cohort.

    Args:
        like: an earlier cohort, whose teacher and evaluators may be reused.
        origins: the study, cell and seed of each run, by id.
        ranks: the processes that train it together; the others call :func:`train_along`.

    Raises:
        ValueError: an invalid setting, a taken id, or an unusable folder; no directory is left behind.
    """
    directories: dict[str, RunDirectory] = {}
    with ExitStack() as locks:
        try:
            for run, config in configs.items():
                directories[run] = create(run, config, runs_dir, origins[run] if origins else None)
                locks.enter_context(RunLock(directories[run]))
            _send_order(ranks, configs, directories, runs_dir, resume=False)
            cohort = build_cohort(configs, directories, runs_dir=runs_dir, like=like, ranks=ranks)
            cohort.notes += tuple(start_warnings(cohort))
        except BaseException:
            # Nothing was trained yet, so a failed start leaves no run behind.
            for directory in directories.values():
                shutil.rmtree(directory.path, ignore_errors=True)
            raise
        return Launch(cohort, directories, locks.pop_all())


def relaunch(
    *runs: RunDirectory, like: Cohort | None = None, overrides: Sequence[str] = (), ranks: Ranks = ALONE
) -> Launch:
    """Resume runs that stopped, were interrupted or died, from their newest intact checkpoints; or start new ones.

    Several runs resume as one cohort, if they could train as one and are at the same step.

    Args:
        like: an earlier cohort, whose teacher and evaluators may be reused.
        ranks: as for :func:`launch`; their number may differ from that of the run's start.
        overrides: new paths of files that have moved, ``KEY=VALUE`` as for ``--set``; recorded in ``run.toml``.

    Raises:
        ValueError: a live process is training the run, its settings were edited, its pairs or its teacher changed, or
            an override changes more than paths; or the runs cannot be one cohort.
    """
    directories = {run.id: run for run in runs}
    configs: dict[str, RunConfig] = {}
    changed: dict[str, dict[str, str]] = {}  # the old paths of files that have moved
    for run in runs:
        configs[run.id], changed[run.id] = moved(run, overrides)
    with ExitStack() as locks:
        notes: dict[str, list[str]] = {}
        for run in runs:
            locks.enter_context(RunLock(run))
            # Edited settings are refused before the models and data are loaded, other content of the files after it.
            check_unchanged(run, configs[run.id], {*changed[run.id], *moved_before(run)})
            notes[run.id] = list(remarks(run, configs[run.id]))
            take_commands(run)  # discards those left for the process that died
        runs_dir = runs[0].path.parent
        _send_order(ranks, configs, directories, runs_dir, resume=True)
        cohort = build_cohort(configs, directories, runs_dir=runs_dir, resume=True, like=like, ranks=ranks)
        for member, run in zip(cohort.members, runs, strict=True):
            member.notes = notes[run.id]
            if changed[run.id]:
                member.notes += check_moved(run, member, changed[run.id])
                record_move(run, configs[run.id], changed[run.id])
        if not cohort.is_resumed:
            cohort.notes += tuple(start_warnings(cohort))
        return Launch(cohort, directories, locks.pop_all())


def _send_order(
    ranks: Ranks,
    configs: Mapping[str, RunConfig],
    directories: Mapping[str, RunDirectory],
    runs_dir: Path,
    *,
    resume: bool,
) -> None:
    """Tell the other ranks, which wait in :func:`train_along`, what to build."""
    paths = {run: directory.path.absolute() for run, directory in directories.items()}
    ranks.of_first(Order(configs, paths, runs_dir.absolute(), resume))


def create(run: str, config: RunConfig, runs_dir: Path, origin: Origin | None = None) -> RunDirectory:
    """Create the directory of a new run."""
    return create_run(runs_dir, run, resolved_toml(config, origin))


def resolved_toml(config: RunConfig, origin: Origin | None = None) -> str:
    """The text of ``run.toml``: every setting, the machine, the code's SHA-256, and the run's place in a study."""
    machine = machine_facts(resolve_device(config.train.device)) | {"code_sha256": code_sha256()}
    extra: dict[str, Any] = {"machine": machine}
    if origin:
        extra["sweep"] = origin.model_dump(mode="json")
    return tomli_w.dumps(resolved(config).model_dump(mode="json") | extra)
