"""Whether the disk has room for the checkpoints of a run, before a night is spent on them."""

from collections.abc import Sequence

from torch import nn

from workbench.config.run import RunConfig
from workbench.engine.member import Member
from workbench.files import DiskFullError, free_bytes

ADAM_COPIES = 3  # weights and two moments


def checkpoints_bytes(member: Member) -> int:
    """The most that a run's checkpoints take at any time; what else it writes is small beside them.

    A new one is whole before an old one goes. While masks are learnt, the whole towers lie beside what the masks leave.
    """
    config, state = member.config, member.state
    num_bytes = ADAM_COPIES * _num_bytes(state) + (_num_bytes(state.student.towers) if state.gates else 0)
    log, num_steps = config.log, config.train.num_steps
    num_saved = 1 + (num_steps // log.checkpoint_every_steps if log.checkpoint_every_steps else 0)
    return (min(log.keep_checkpoints, num_saved) + 1) * num_bytes


def remedy(config: RunConfig) -> str:
    """What to do where a run's checkpoints do not fit."""
    fewer = "keep fewer checkpoints with --set log.keep_checkpoints=1, " if config.log.keep_checkpoints > 1 else ""
    return f"make room, {fewer}or name another disk with --runs DIR"


def check_room(members: Sequence[Member]) -> None:
    """Refuses runs whose checkpoints would fill the disk; what a resumed run has on it already counts as room.

    Raises:
        ValueError: needed is more than there is.
    """
    kept = {member.directory: member for member in members if member.directory}
    if not kept:
        return
    first = next(iter(kept))
    needed = sum(max(0, checkpoints_bytes(member) - _written(member)) for member in kept.values())
    if needed > free_bytes(first.path):
        has_begun = first.events_file.stat().st_size > 0  # its settings and its place are what they are
        what_to_do = "make room there" if has_begun else remedy(kept[first].config)
        raise ValueError(f"{DiskFullError(first.path.parent, needed)}; {what_to_do}")


def _num_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _written(member: Member) -> int:
    """Bytes of the checkpoints that are there."""
    assert member.directory is not None
    return sum(file.stat().st_size for file in member.directory.checkpoints.rglob("*") if file.is_file())
