"""Whether every loss counts. A scale of 1e-30 or another loss's weight of 1e20 trains a loss to nothing, silently.

What is judged is measured, never a setting: norms of gradients, at the weights that the losses come to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

import torch

from workbench.config.run import LossConfig, RunConfig
from workbench.embeddings import Batch
from workbench.engine.gradients import output_norms
from workbench.engine.teacher_outputs import TeacherOutputs

if TYPE_CHECKING:
    from workbench.engine.member import Member

# Of the summed norms: below it, a loss changes hardly a bit of a float32 gradient (6e-8 of it). The smallest share of a
# loss of a shipped recipe at any of 20 steps is 4e-4 (gd).
NOTHING = 1e-6
# Of optimizer.eps: AdamW divides by the root of the second moment plus eps, and moves a weight by this share of the
# learning rate at most.
UNFELT = 1e-3


@dataclass(frozen=True)
class Remark:
    """Losses that train to nothing: what was found, and the settings that decide it, as ``--set`` writes them."""

    message: str
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.message}; look at {', '.join(self.settings)}"


def examine(member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """What is worth saying of the losses that are on at ``step`` (from 0), after it was taken.

    A student that learns masks begins as its teacher, and has nothing to learn from it yet: nothing is said then, nor
    where memory runs out or a norm is not finite, which are said elsewhere.
    """
    weights = member.objective.weights_at(step)
    if not weights or member.state.gates:
        return []
    train = member.config.train
    try:
        norms = output_norms(
            member.state,
            member.masked(batch, step),
            teacher_outputs,
            member.objective.apart(),
            step,
            train.precision,
            micro_batch_size=train.micro_batch_size,
        )
    except torch.OutOfMemoryError:
        return []
    largest = {name: member.objective.terms[name].largest_weight for name in norms}
    remarks = _without_share({name: largest[name] * norm for name, norm in norms.items()}, member.config)
    if all(weights[name] == largest[name] for name in weights):  # no ramp is under way
        num_weights = sum(parameter.numel() for parameter in member.state.weights)
        remarks += _unfelt(member.grad_norm, num_weights, list(weights), member.config)
    return remarks


def new_remarks(member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """The same at the first report at which a loss is on, or its weight has changed; nothing at others."""
    names = member.objective.weights_at(step).keys()
    if member.state.gates or names <= member.examined:
        return []
    member.examined |= names
    return examine(member, batch, teacher_outputs, step)


def _without_share(norms: Mapping[str, float], config: RunConfig) -> list[Remark]:
    """The losses whose part of the gradient is nothing beside the largest's."""
    total = sum(norms.values())
    if not 0 < total < inf:
        return []
    small = [name for name, norm in norms.items() if norm < NOTHING * total]
    if not small:
        return []
    most = max(norms, key=lambda name: norms[name])
    listed = " and ".join(f"loss.{name} ({norms[name] / total:.1g} of the gradient)" for name in small)
    verb = "contributes" if len(small) == 1 else "contribute"
    settings = [text for name in (*small, most) for text in settings_of(name, config.loss[name])]
    return [Remark(f"{listed} {verb} nothing, loss.{most} nearly all", tuple(settings))]


def _unfelt(grad_norm: float, num_weights: int, losses: list[str], config: RunConfig) -> list[Remark]:
    """Whether the whole gradient is so small that AdamW moves nothing."""
    optimizer = config.optimizer
    norm = min(grad_norm, optimizer.clip_norm or inf)
    mean = norm / sqrt(num_weights) if num_weights else inf
    if not mean < UNFELT * optimizer.eps:
        return []
    settings = [text for name in losses for text in settings_of(name, config.loss[name])]
    settings.append(f"optimizer.eps={optimizer.eps:g}")
    if norm < grad_norm:
        settings.append(f"optimizer.clip_norm={optimizer.clip_norm:g}")
    return [
        Remark(f"nothing is learned: the gradient is {mean:.1g} a weight, far below optimizer.eps", tuple(settings))
    ]


def settings_of(name: str, loss: LossConfig) -> list[str]:
    """The numbers that a loss is set to, its weight last."""
    options = {key: value for key, value in loss.options().items() if type(value) in (int, float)}
    return [f"loss.{name}.{key}={value:g}" for key, value in {**options, "weight": loss.schedule.largest}.items()]
