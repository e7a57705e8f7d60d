"""Where a run's training starts: at its beginning, at its newest checkpoint, or at the one that it was forked from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.config.run import RunConfig
from workbench.config.toml import with_overrides
from workbench.engine.checkpoint import LEARNT, OPTIMIZER, load_checkpoint, training_tensors
from workbench.engine.joint import jumps
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.engine.steering import change, told
from workbench.events import Forked
from workbench.losses.learnt import LearntParts
from workbench.runs.checkpoints import checkpoint_step, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import forked_from, lineage
from workbench.runs.log import first_events

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """Steps that are behind a run, whether it said so before, and what is worth warning of."""

    step: int = 0
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def restore(member: Member) -> Start:
    """Put the member where its run's directory says it is, with the settings that it was told since.

    Raises:
        ValueError: the checkpoint belongs to another architecture, or that of a fork is gone.
    """
    assert member.directory is not None
    start = _load_newest(member, member.directory)
    if changes := told(member.directory, start.step):
        change(member, changes)
    return start


def restore_together(members: Sequence[Member]) -> Start:
    """Put the members of a cohort where their directories say they are, which must be at one step.

    Raises:
        ValueError: as :func:`restore`, or the runs stand at different steps.
    """
    starts = [restore(member) for member in members]
    first = starts[0]
    for member, start in zip(members, starts, strict=True):
        if (start.step, start.is_resumed) != (first.step, first.is_resumed):
            raise ValueError(
                f"run {member.run} goes on from step {start.step} and {members[0].run} from step {first.step}: "
                "resume them apart"
            )
    return Start(first.step, first.is_resumed, tuple(note for start in starts for note in start.notes))


def start_of(run: RunDirectory) -> Start:
    """Where a run that is no fork would go on from."""
    checkpoint = newest_checkpoint(run)
    step = 0 if checkpoint is None else checkpoint_step(checkpoint)
    return Start(step, is_resumed=checkpoint is not None or run.events_file.stat().st_size > 0)


def _load_newest(member: Member, run: RunDirectory) -> Start:
    checkpoint, forked = newest_checkpoint(run), forked_from(run)
    if forked is None:
        if checkpoint is not None:
            load_checkpoint(member, checkpoint)
        return start_of(run)
    if checkpoint is None:
        raise ValueError(f"run {run.id} has lost the checkpoint that it was forked from: fork it from its parent again")
    is_resumed = len(first_events(run.events_file)) > 1
    if checkpoint_step(checkpoint) > forked.parent_step:
        return Start(load_checkpoint(member, checkpoint), is_resumed)
    notes = _load_parents(member, checkpoint)
    before = _settings_there(run, forked, checkpoint)
    return Start(member.step, is_resumed, (*notes, *(jumps(before, member.config, member.step) if before else ())))


def _settings_there(run: RunDirectory, forked: Forked, checkpoint: Path) -> RunConfig | None:
    """The parent's settings at the checkpoint, those it was told since its start among them; None if unknown."""
    saved = read_manifest(checkpoint).get("config")
    if saved is None:
        return None
    parents = [past.run for past in lineage(run) if past.run.id == forked.parent]
    changes = told(parents[-1], forked.parent_step) if parents else {}
    return with_overrides(RunConfig.parse(saved), [f"{setting}={value}" for setting, value in changes.items()])


def _load_parents(member: Member, checkpoint: Path) -> tuple[str, ...]:
    """Restore what fits of a parent's checkpoint, all of its student among it; returns what did not."""
    shapes: dict[str, torch.Size] = {}
    taken: Tensors = {}
    left: Tensors = {}

    def fitting(training: Tensors) -> Tensors:
        shapes.update(_shapes(member.state))  # now that the student has the parent's architecture
        for name, value in training.items():
            place, shaped = name, value
            if name.startswith(OPTIMIZER):
                place = name.rpartition("/")[0]
                shaped = training[f"{place}/exp_avg"]  # for the count of steps has no shape
            (taken if shapes.get(place) == shaped.shape else left)[name] = value
        return {LEARNT + name: value for name, value in member.state.learnt.state_dict().items()} | taken

    load_checkpoint(member, checkpoint, fitting)
    own = {name for name in shapes if name.startswith(LEARNT)}
    return tuple(
        f"{what}: {', '.join(parts)}"
        for what, parts in (
            ("new to this fork, and untrained at its start", _parts(own - taken.keys())),
            ("learnt by the parent, and of no use to this fork", _parts(left.keys() - own)),
        )
        if parts
    )


def _shapes(state: TrainState) -> dict[str, torch.Size]:
    """The shapes of all that only training needs, parameters of the optimiser among it, by names in a checkpoint."""
    tensors = {name: value.shape for name, value in training_tensors(state).items()}
    return tensors | {OPTIMIZER + name: value.shape for name, value in state.named_parameters()}


def _parts(names: set[str]) -> list[str]:
    """Whom the learnt ones among the tensors of a checkpoint belong to."""
    return LearntParts.owners(name.removeprefix(LEARNT) for name in names if name.startswith(LEARNT))
