"""From configs to recorded runs: directories, locks, training and the log, for every door that starts one."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tomli_w

from workbench.config.run import RunConfig
from workbench.config.steering import Origin
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.device import machine_facts, resolve_device, resolved
from workbench.engine.doctor.at_start import start_warnings
from workbench.engine.loop import train
from workbench.engine.paths import moved, moved_before, record_move
from workbench.engine.resume import check_moved, check_unchanged, remarks
from workbench.events import Event, RunResumed, Warned
from workbench.runs.control import take_commands
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import RunLock
from workbench.runs.record import code_sha256, record

Interrupted = Callable[[], bool]


class Launch:
    """Runs that have their directories and are ready to train; iterate :meth:`events` to train and record them."""

    def __init__(
        self,
        cohort: Cohort,
        directories: Mapping[str, RunDirectory],
        locks: ExitStack,
        remarks: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.cohort = cohort
        self.directories = directories
        self._locks = locks
        self._remarks = {run: tuple(said) for run, said in (remarks or {}).items()}

    def events(self, interrupted: Interrupted = lambda: False) -> Iterator[Event]:
        """Train; every event is in the run's log before it is yielded. The locks are held until the end."""
        with self._locks:
            yield from record(self._train(interrupted), self.directories)

    def _train(self, interrupted: Interrupted) -> Iterator[Event]:
        for event in train(self.cohort, interrupted):
            yield event
            if isinstance(event, RunResumed):
                said = self._remarks.get(event.run, ())
                yield from (Warned(run=event.run, step=event.step, message=remark) for remark in said)


def launch(
    configs: Mapping[str, RunConfig],
    runs_dir: Path,
    like: Cohort | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> Launch:
    """Create the runs in ``configs``, by id, as one cohort.

    Args:
        like: the cohort before this one, whose teacher may serve again.
        origins: the place of each run in a study, by id.

    Raises:
        ValueError: a setting that cannot be, a taken id, or an unusable folder; no directory is left behind.
    """
    directories: dict[str, RunDirectory] = {}
    with ExitStack() as locks:
        try:
            for run, config in configs.items():
                directories[run] = create(run, config, runs_dir, origins[run] if origins else None)
                locks.enter_context(RunLock(directories[run]))
            cohort = build_cohort(configs, directories, runs_dir=runs_dir, like=like)
            cohort.notes += tuple(start_warnings(cohort))
        except BaseException:
            for directory in directories.values():
                shutil.rmtree(directory.path, ignore_errors=True)
            raise
        return Launch(cohort, directories, locks.pop_all())


def relaunch(*runs: RunDirectory, like: Cohort | None = None, overrides: Sequence[str] = ()) -> Launch:
    """Go on with a run that stopped, was interrupted or died, from its newest whole checkpoint; or begin a new one.

    Several go on as one cohort, if they share what a cohort must and stand at one step.

    Args:
        like: the cohort before this one, whose teacher may serve again.
        overrides: as ``--set`` has them: new paths of files that have moved. They are recorded in ``run.toml``.

    Raises:
        ValueError: a run is being trained by a live process, its settings were edited, its pairs or its teacher
            changed, or an override says more than where files are; or several cannot be one cohort.
    """
    directories = {run.id: run for run in runs}
    found = {run.id: moved(run, overrides) for run in runs}
    configs = {run: config for run, (config, _) in found.items()}
    with ExitStack() as locks:
        said: dict[str, list[str]] = {}
        for run in runs:
            locks.enter_context(RunLock(run))
            check_unchanged(run, configs[run.id], {*found[run.id][1], *moved_before(run)})
            said[run.id] = list(remarks(run, configs[run.id]))
            take_commands(run)  # those meant for the process that died are void
        cohort = build_cohort(configs, directories, runs_dir=runs[0].path.parent, resume=True, like=like)
        members = {member.run: member for member in cohort.members}
        for run in runs:
            if changed := found[run.id][1]:
                said[run.id] += check_moved(run, members[run.id], changed)
                record_move(run, configs[run.id], changed)
        if not cohort.is_resumed:
            cohort.notes += tuple(start_warnings(cohort))
        return Launch(cohort, directories, locks.pop_all(), said)


def create(run: str, config: RunConfig, runs_dir: Path, origin: Origin | None = None) -> RunDirectory:
    """The directory of a run that has not begun.

    Raises:
        ValueError: the id is taken, or the folder cannot be used.
    """
    return create_run(runs_dir, run, resolved_toml(config, origin))


def resolved_toml(config: RunConfig, origin: Origin | None = None) -> str:
    """Every setting, the run's place in a study, and what decides the last bits of its numbers: machine and code."""
    machine = machine_facts(resolve_device(config.train.device)) | {"code_sha256": code_sha256()}
    beside: dict[str, Any] = {"machine": machine}
    if origin:
        beside["sweep"] = origin.model_dump(mode="json")
    return tomli_w.dumps(resolved(config).model_dump(mode="json") | beside)
