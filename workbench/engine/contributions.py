"""Warnings about losses whose gradient has no effect, as with a scale of 1e-30 or another loss's weight of 1e20.

They are measured, not read from settings: gradient norms times the largest weight of each loss's schedule.
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

# Share of the summed norms. Below it a loss hardly changes a bit of a float32 gradient, whose resolution is 6e-8. The
# smallest share of a loss in a shipped recipe, over its first 20 steps, is 4e-4 (gd).
MIN_SHARE = 1e-6
# Fraction of optimizer.eps. AdamW divides by the root of the second moment plus eps, so a gradient this small moves a
# weight by at most this fraction of the learning rate.
MIN_OF_EPS = 1e-3


@dataclass(frozen=True)
class Remark:
    """Losses without effect, and the settings that decide it, as ``--set`` writes them."""

    message: str
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.message}; check {', '.join(self.settings)}"


def examine(member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """Remarks on the losses that are on at ``step`` (from 0), after it was taken."""
    # While masks are learned the student still equals its teacher, so that small gradients are expected. Out-of-memory
    # and non-finite norms are reported elsewhere.
    weights = member.objective.weights_at(step)
    if not weights or member.state.gates:
        return []
    train = member.config.train
    try:
        norms = output_norms(
            member.state,
            member.masked(batch, step),
            teacher_outputs,
            member.objective.for_measurement(),
            step,
            train.precision,
            micro_batch_size=train.micro_batch_size,
        )
    except torch.OutOfMemoryError:
        return []
    largest = {name: member.objective.terms[name].largest_weight for name in norms}
    remarks = _without_share({name: largest[name] * norm for name, norm in norms.items()}, member.config)
    if all(weights[name] == largest[name] for name in weights):  # during a ramp a small gradient is expected
        num_weights = sum(parameter.numel() for parameter in member.state.weights)
        remarks += _vanishing(member.grad_norm, num_weights, list(weights), member.config)
    return remarks


def new_remarks(member: "Member", batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Remark]:
    """:func:`examine` at the first report after a loss is switched on or its weight changed; empty at others."""
    names = member.objective.weights_at(step).keys()
    if member.state.gates or names <= member.examined:
        return []
    member.examined |= names
    return examine(member, batch, teacher_outputs, step)


def _without_share(norms: Mapping[str, float], config: RunConfig) -> list[Remark]:
    """Losses with a negligible share of the summed gradient norms."""
    total = sum(norms.values())
    if not 0 < total < inf:
        return []
    small = [name for name, norm in norms.items() if norm < MIN_SHARE * total]
    if not small:
        return []
    most = max(norms, key=lambda name: norms[name])
    listed = " and ".join(f"loss.{name} ({norms[name] / total:.1g} of the gradient)" for name in small)
    verb = "contributes" if len(small) == 1 else "contribute"
    settings = [text for name in (*small, most) for text in settings_of(name, config.loss[name])]
    return [Remark(f"{listed} {verb} nothing, loss.{most} nearly all", tuple(settings))]


def _vanishing(grad_norm: float, num_weights: int, losses: list[str], config: RunConfig) -> list[Remark]:
    """Whether the total gradient is so small that AdamW does not move the weights."""
    optimizer = config.optimizer
    norm = min(grad_norm, optimizer.clip_norm or inf)
    mean = norm / sqrt(num_weights) if num_weights else inf
    if not mean < MIN_OF_EPS * optimizer.eps:
        return []
    settings = [text for name in losses for text in settings_of(name, config.loss[name])]
    settings.append(f"optimizer.eps={optimizer.eps:g}")
    if norm < grad_norm:
        settings.append(f"optimizer.clip_norm={optimizer.clip_norm:g}")
    return [
        Remark(f"nothing is learned: the gradient is {mean:.1g} per weight, far below optimizer.eps", tuple(settings))
    ]


def settings_of(name: str, loss: LossConfig) -> list[str]:
    """The numeric settings of a loss, its weight last."""
    options = {key: value for key, value in loss.options().items() if type(value) in (int, float)}
    return [f"loss.{name}.{key}={value:g}" for key, value in {**options, "weight": loss.schedule.largest}.items()]
