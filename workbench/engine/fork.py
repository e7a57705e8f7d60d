"""A new run from a checkpoint of another, with changes."""

import shutil
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.config.run import RunConfig, StudentConfig
from workbench.config.toml import at_length, load_run_config, with_overrides
from workbench.engine.cadence import check_phase
from workbench.engine.settings import applied_overrides
from workbench.runs.checkpoints import checkpoint_step, checkpoints, create_fork, find_checkpoint
from workbench.runs.directory import RunDirectory

if TYPE_CHECKING:
    from workbench.engine.launch import Launch

FIXED = {  # settings that a fork cannot change, and why
    **{f"student.{name}": "the student continues as it is" for name in StudentConfig.model_fields},
    "seed": "it seeds the initial weights, which the checkpoint replaces; data.seed decides the order and the crops",
}


@dataclass(frozen=True)
class Fork:
    """A planned fork: its parent, the checkpoint it starts from, and its config."""

    parent: RunDirectory
    checkpoint: Path
    config: RunConfig

    @property
    def step(self) -> int:
        """Steps shared with the parent."""
        return checkpoint_step(self.checkpoint)

    def new_id(self) -> str:
        """A readable id that is not taken, such as ``PARENT-at8``."""
        base = f"{self.parent.id[:80]}-at{self.step}"
        candidate, count = base, 1
        while (self.parent.path.parent / candidate).exists():
            count += 1
            candidate = f"{base}-{count}"
        return candidate

    def create(self, run_id: str) -> RunDirectory:
        """Create the run's directory; :func:`start_fork` trains it.

        Raises:
            ValueError: the id is taken, or the folder cannot be used.
            CheckpointRemovedError: the parent has just removed the checkpoint.
        """
        from workbench.engine.launch import resolved_toml  # lazy: imports torch, which planning a fork does not need

        return create_fork(self.parent, run_id, resolved_toml(self.config), self.checkpoint)

    def launch(self, run_id: str) -> "Launch":
        """:meth:`create`, then :func:`start_fork`."""
        return start_fork(self.create(run_id))


def start_fork(directory: RunDirectory) -> "Launch":
    """Build a created fork.

    Raises:
        ValueError: an invalid setting; the directory is removed.
    """
    from workbench.engine.launch import relaunch

    try:
        return relaunch(directory)
    except BaseException:
        shutil.rmtree(directory.path, ignore_errors=True)
        raise


def plan_fork(
    parent: RunDirectory, *, at: int | None = None, overrides: list[str] | None = None, num_steps: int | None = None
) -> Fork:
    """Plan a fork of ``parent``; nothing is written.

    Args:
        at: the step of the checkpoint to start from; the newest intact one by default.
        overrides: ``KEY=VALUE`` strings, as for ``--set``.
        num_steps: of the fork, shared steps included; phases and intervals scale in proportion.

    Raises:
        ValueError: there is no such checkpoint, a setting that a fork cannot change, or no step left to take.
    """
    before = load_run_config(parent.config_file)
    start, last = checkpoint_step(find_checkpoint(parent, at)), before.train.num_steps
    if start > last:
        raise ValueError(
            f"run {parent.id} has trained a detector since step {last}, and its student no further: fork that with "
            f"--at {last} if it is kept, or measure the student again with workbench dense {parent.id}"
        )
    steered = [f"{setting}={value}" for setting, value in applied_overrides(parent, start).items()]
    after = with_overrides(before, [*steered, *(overrides or [])])
    for name, reason in FIXED.items():
        old, new = attrgetter(name)(before), attrgetter(name)(after)
        if old != new:
            raise ValueError(f"a fork cannot change {name} from {old!r} to {new!r}: {reason}")
    config = after if num_steps is None else at_length(after, num_steps, overrides or [])
    fork = Fork(parent, find_checkpoint(parent, at), config)
    if fork.step >= config.train.num_steps:
        earlier = [str(step) for step in sorted(map(checkpoint_step, checkpoints(parent))) if step < fork.step]
        remedy = f", or start earlier with --at STEP ({', '.join(earlier)})" if earlier else ""
        raise ValueError(
            f"run {parent.id} has a checkpoint at step {fork.step} and the fork would end at "
            f"{config.train.num_steps}: train longer with --steps N{remedy}"
        )
    check_phase(before, config, fork.step)
    return fork
