"""The phases of a run: one, or with stages a phase that learns masks and one that trains what stays, stage by stage."""

import math
from dataclasses import dataclass

from workbench.config.inheritance import GatesConfig
from workbench.config.run import OptimizerConfig, RunConfig

# The learning rate as a pure function of the step.


def learning_rate(step: int, num_steps: int, peak: float, warmup_fraction: float) -> float:
    """Linear warm-up to ``peak``, then half a cosine towards 0.

    Args:
        step: the step about to be taken, counted from 0.
    """
    num_warmup = round(warmup_fraction * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Phase:
    """Steps ``start`` up to, not including, ``end`` of a run, under one optimiser and one learning-rate schedule.

    ``stage`` counts from 0 and is None for a run without stages; ``gates`` are there while masks are learnt.
    """

    start: int
    end: int
    stage: int | None = None
    gates: GatesConfig | None = None

    def learning_rate(self, step: int, config: OptimizerConfig) -> float:
        """The rate of a step of the run, counted from 0.

        TinyCLIP's mask phases are all warm-up, and what follows one has none.
        """
        warmup_fraction = config.warmup_fraction
        if self.stage is not None:
            warmup_fraction = 1.0 if self.gates else 0.0
        return learning_rate(step - self.start, self.end - self.start, config.learning_rate, warmup_fraction)

    def __str__(self) -> str:
        if self.stage is None:
            return "training"
        what = f"learning masks towards sparsity {self.gates.sparsity:g}" if self.gates else "training what stays"
        return f"stage {self.stage + 1}: {what}"


def phases(config: RunConfig) -> tuple[Phase, ...]:
    """All phases of a run, in order; together they are its steps."""
    stages = config.inheritance.stages
    if not stages:
        return (Phase(0, config.train.num_steps),)
    found, start = [], 0
    for number, stage in enumerate(stages):
        middle, end = start + stage.mask_steps, start + stage.num_steps
        found += [Phase(start, middle, number, stage), Phase(middle, end, number)]
        start = end
    return tuple(found)


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """The phase that takes step ``step``, counted from 0; the last one after the last step."""
    return next((phase for phase in phases if step < phase.end), phases[-1])
