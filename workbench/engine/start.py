"""Where a run's training starts: at its beginning, at its newest checkpoint, or at the one that it was forked from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.engine.checkpoint import LEARNT, OPTIMIZER, load_checkpoint
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.runs.checkpoints import checkpoint_step, newest_checkpoint
from workbench.runs.lineage import forked_from
from workbench.runs.log import first_events

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """Steps that are behind a run, whether it said so before, and what is worth warning of."""

    step: int = 0
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def restore(member: Member) -> Start:
    """Put the member where its run's directory says it is.

    Raises:
        ValueError: the checkpoint belongs to another architecture, or that of a fork is gone.
    """
    run = member.directory
    assert run is not None
    checkpoint, forked = newest_checkpoint(run), forked_from(run)
    if forked is None:
        step = 0 if checkpoint is None else load_checkpoint(member, checkpoint)
        return Start(step, is_resumed=checkpoint is not None or run.events_file.stat().st_size > 0)
    if checkpoint is None:
        raise ValueError(f"run {run.id} has lost the checkpoint that it was forked from: fork it from its parent again")
    is_resumed = len(first_events(run.events_file)) > 1
    if checkpoint_step(checkpoint) > forked.parent_step:
        return Start(load_checkpoint(member, checkpoint), is_resumed)
    notes = _load_parents(member, checkpoint)
    return Start(member.step, is_resumed, notes)


def _load_parents(member: Member, checkpoint: Path) -> tuple[str, ...]:
    """Restore what fits of a parent's checkpoint, all of its student among it; returns what did not."""
    shapes = _shapes(member.state)
    taken: Tensors = {}
    left: Tensors = {}

    def fitting(training: Tensors) -> Tensors:
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
    """The shapes of all learnt tensors and of all parameters of the optimiser, by their names in a checkpoint."""
    learnt = {LEARNT + name: value.shape for name, value in state.learnt.state_dict().items()}
    return learnt | {OPTIMIZER + name: value.shape for name, value in state.named_parameters()}


def _parts(names: set[str]) -> list[str]:
    """The learnt parts that tensors belong to, as a person knows them: a loss's name, or "projections"."""
    learnt = (name.removeprefix(LEARNT).removeprefix("_parts.") for name in names if name.startswith(LEARNT))
    return sorted({name.split(".")[0] for name in learnt})
