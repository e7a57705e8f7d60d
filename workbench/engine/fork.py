"""A new run from a checkpoint of another, with changes."""

import shutil
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.config.run import RunConfig, StudentConfig
from workbench.config.toml import at_length, load_run_config, with_overrides
from workbench.engine.joint import check_phase
from workbench.engine.steering import applied_overrides
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import create_fork, find_checkpoint

if TYPE_CHECKING:
    from workbench.engine.launch import Launch

KEPT = {
    **{f"student.{name}": "the student goes on as it is" for name in StudentConfig.model_fields},
    "seed": "it seeds the initial weights, which lie in the past; data.seed decides the order and the crops",
}


@dataclass(frozen=True)
class Fork:
    """A run that can be made: where it begins, and what it is told."""

    parent: RunDirectory
    checkpoint: Path
    config: RunConfig

    @property
    def step(self) -> int:
        """Steps that it shares with its parent."""
        return checkpoint_step(self.checkpoint)

    def new_id(self) -> str:
        """A readable id that is free now: ``PARENT-at8``."""
        base = f"{self.parent.id[:80]}-at{self.step}"
        candidate, count = base, 1
        while (self.parent.path.parent / candidate).exists():
            count += 1
            candidate = f"{base}-{count}"
        return candidate

    def create(self, run_id: str) -> RunDirectory:
        """Make the run's directory; it is trained by :func:`~workbench.engine.launch.relaunch`.

        Raises:
            ValueError: the id is taken, the folder cannot be used, or the checkpoint has just been removed.
        """
        from workbench.engine.launch import resolved_toml  # brings torch, which planning a fork does without

        return create_fork(self.parent, run_id, resolved_toml(self.config), self.checkpoint)

    def launch(self, run_id: str) -> "Launch":
        """Make the run and get it ready to train.

        Raises:
            ValueError: as :meth:`create`, or a setting that cannot be; no directory is left behind.
        """
        from workbench.engine.launch import relaunch

        directory = self.create(run_id)
        try:
            return relaunch(directory)
        except BaseException:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise


def plan_fork(
    parent: RunDirectory, *, at: int | None = None, overrides: list[str] | None = None, num_steps: int | None = None
) -> Fork:
    """What a fork of ``parent`` would be.

    Args:
        at: the step of the checkpoint to begin from; the newest whole one if not given.
        overrides: as ``--set`` has them.
        num_steps: of the fork, those that it shares included; phases and cadences scale in proportion.

    Raises:
        ValueError: there is no such checkpoint, a change that a fork cannot make, or no step left to take.
    """
    before = load_run_config(parent.config_file)
    begin = checkpoint_step(find_checkpoint(parent, at))
    steered = [f"{setting}={value}" for setting, value in applied_overrides(parent, begin).items()]
    after = with_overrides(before, [*steered, *(overrides or [])])
    for name, reason in KEPT.items():
        old, new = attrgetter(name)(before), attrgetter(name)(after)
        if old != new:
            raise ValueError(f"a fork cannot change {name} from {old!r} to {new!r}: {reason}")
    config = after if num_steps is None else at_length(after, num_steps, overrides or [])
    fork = Fork(parent, find_checkpoint(parent, at), config)
    if fork.step >= config.train.num_steps:
        earlier = [str(step) for step in sorted(map(checkpoint_step, checkpoints(parent))) if step < fork.step]
        remedy = f", or begin earlier with --at STEP ({', '.join(earlier)})" if earlier else ""
        raise ValueError(
            f"run {parent.id} has a checkpoint at step {fork.step} and the fork would end at "
            f"{config.train.num_steps}: go on longer with --steps N{remedy}"
        )
    check_phase(before, config, fork.step)
    return fork
