"""From configs to recorded runs: directories, locks, training and the log, for every door that starts one."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import tomli_w

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.continuity import check_same_data, check_unchanged, remarks
from workbench.engine.device import machine_facts, resolve_device
from workbench.engine.loop import train
from workbench.events import Event, RunResumed, Warned
from workbench.runs.control import take_commands
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.lock import RunLock
from workbench.runs.record import record

Interrupted = Callable[[], bool]


class Launch:
    """Runs that have their directories and are ready to train; iterate :meth:`events` to train and record them."""

    def __init__(
        self,
        cohort: Cohort,
        directories: Mapping[str, RunDirectory],
        locks: ExitStack,
        remarks: Iterable[str] = (),
    ) -> None:
        self.cohort = cohort
        self.directories = directories
        self._locks = locks
        self._remarks = tuple(remarks)

    def events(self, interrupted: Interrupted = lambda: False) -> Iterator[Event]:
        """Train; every event is in the run's log before it is yielded. The locks are held until the end."""
        with self._locks:
            yield from record(self._train(interrupted), self.directories)

    def _train(self, interrupted: Interrupted) -> Iterator[Event]:
        for event in train(self.cohort, interrupted):
            yield event
            if isinstance(event, RunResumed):
                yield from (Warned(run=event.run, step=event.step, message=remark) for remark in self._remarks)


def launch(configs: Mapping[str, RunConfig], runs_dir: Path, like: Cohort | None = None) -> Launch:
    """Create the runs in ``configs``, by id, as one cohort; ``like`` is the one before, whose teacher may serve again.

    Raises:
        ValueError: a setting that cannot be, a taken id, or an unusable folder; no directory is left behind.
    """
    directories: dict[str, RunDirectory] = {}
    with ExitStack() as locks:
        try:
            for run, config in configs.items():
                directories[run] = create(run, config, runs_dir)
                locks.enter_context(RunLock(directories[run]))
            cohort = build_cohort(configs, directories, runs_dir=runs_dir, like=like)
        except BaseException:
            for directory in directories.values():
                shutil.rmtree(directory.path, ignore_errors=True)
            raise
        return Launch(cohort, directories, locks.pop_all())


def relaunch(directory: RunDirectory) -> Launch:
    """Go on with a run that stopped, was interrupted or died, from its newest whole checkpoint; or begin a new one.

    Raises:
        ValueError: the run is being trained by a live process, or its settings were edited or its pairs changed.
    """
    config = load_run_config(directory.config_file)
    with ExitStack() as locks:
        locks.enter_context(RunLock(directory))
        check_unchanged(directory, config)
        said = list(remarks(directory, config))
        take_commands(directory)  # those meant for the process that died are void
        cohort = build_cohort(
            {directory.id: config}, {directory.id: directory}, runs_dir=directory.path.parent, resume=True
        )
        check_same_data(directory, cohort.stream.dataset.fingerprint)
        return Launch(cohort, {directory.id: directory}, locks.pop_all(), said)


def create(run: str, config: RunConfig, runs_dir: Path) -> RunDirectory:
    """The directory of a run that has not begun.

    Raises:
        ValueError: the id is taken, or the folder cannot be used.
    """
    return create_run(runs_dir, run, resolved_toml(config))


def resolved_toml(config: RunConfig) -> str:
    """Every setting, and the machine, which decides the last bits of the numbers: what ``run.toml`` holds."""
    facts = machine_facts(resolve_device(config.train.device))
    return tomli_w.dumps(config.model_dump(mode="json") | {"machine": facts})
