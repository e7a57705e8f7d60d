"""What is due at which step: phases, the learning rate, the steps that log, evaluate, diagnose or save; and where a
fork's schedules jump.

Two ways to count: ``phase`` and ``learning_rate`` take the step about to be taken, from 0; ``..._at`` methods take the
number of steps already taken, so the first is 1 and the last is ``num_steps``."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workbench.config.inheritance import GatesConfig
from workbench.config.run import LossConfig, OptimizerConfig, RunConfig

NUM_MASK_SNAPSHOTS = 40  # in each phase that learns masks

# Steps between two gradient snapshots for each step that one costs. The budget is 5 % of the training time, that is 20;
# twice that leaves room for the first snapshot, at step 1, in a short run.
STEPS_PER_COST = 40


def learning_rate(step: int, num_steps: int, peak: float, warmup_fraction: float) -> float:
    """Linear warm-up to ``peak``, then cosine decay to 0, for the step about to be taken, counted from 0."""
    num_warmup = round(warmup_fraction * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Phase:
    """Steps ``start`` to ``end`` (exclusive) of a run, under one optimizer and one learning-rate schedule.

    ``stage`` counts from 0 and is None for a run without stages; ``gates`` is set while pruning masks are learned.
    """

    start: int
    end: int
    stage: int | None = None
    gates: GatesConfig | None = None

    def learning_rate(self, step: int, config: OptimizerConfig) -> float:
        """The learning rate of a step of the run, counted from 0."""
        warmup_fraction = config.warmup_fraction
        if self.stage is not None:
            # As TinyCLIP does: a phase that learns masks is all warm-up, and the one after it has none.
            warmup_fraction = 1.0 if self.gates else 0.0
        return learning_rate(step - self.start, self.end - self.start, config.learning_rate, warmup_fraction)

    def __str__(self) -> str:
        if self.stage is None:
            return "training"
        what = f"learning masks towards sparsity {self.gates.sparsity:g}" if self.gates else "training what stays"
        return f"stage {self.stage + 1}: {what}"


def phases(config: RunConfig) -> tuple[Phase, ...]:
    """All phases of a run, in order; together they cover every step once."""
    stages = config.inheritance.stages
    if not stages:
        return (Phase(0, config.train.num_steps),)
    planned, start = [], 0
    for number, stage in enumerate(stages):
        middle, end = start + stage.mask_steps, start + stage.num_steps
        planned += [Phase(start, middle, number, stage), Phase(middle, end, number)]
        start = end
    return tuple(planned)


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """The phase of step ``step``, counted from 0; past the end, the last one."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def diagnose_every(setting: int | Literal["auto"], num_losses: int, num_steps: int) -> int:
    """Steps between two gradient snapshots in a run of ``num_steps``; 0 for none.

    A snapshot costs one forward and one backward per loss. A backward takes as long as two forwards, so with K losses
    it costs (1 + 2K) / 3 training steps. "auto" keeps all snapshots, the first at step 1 included, under 5 % of the
    training time, and takes none in runs too short for that.
    """
    if setting != "auto":
        return setting
    thirds_of_a_step = 1 + 2 * num_losses
    if 3 * num_steps < STEPS_PER_COST // 2 * thirds_of_a_step:
        return 0
    return -(-STEPS_PER_COST * thirds_of_a_step // 3)  # rounded up, in integers


class Cadence:
    """What is due after ``step`` steps of one run.

    Args:
        num_losses: they decide the cost of a gradient snapshot.
        keeps_files: the run has a directory; without one no snapshot is due.
        inherits: the student is pruned from a source model, so that it has masks.
    """

    def __init__(self, config: RunConfig, num_losses: int, *, keeps_files: bool, inherits: bool) -> None:
        self.phases = phases(config)
        self._log_every = config.log.every_steps
        self._evaluate_every = config.evaluate.every_steps
        self._save_every = config.log.checkpoint_every_steps
        diagnose = diagnose_every(config.log.diagnose_every_steps, num_losses, config.train.num_steps)
        self._diagnose_every = diagnose if keeps_files else 0
        self._has_masks = keeps_files and inherits

    def phase(self, step: int) -> Phase:
        """The phase of step ``step``, counted from 0."""
        return phase_at(self.phases, step)

    def reports_at(self, step: int) -> bool:
        """Whether anything is due: evaluations, checkpoints and snapshots come with a log line of the same step."""
        return self.logs_at(step) or self.reads_weights_at(step) or self.diagnoses_at(step) or self.masks_due_at(step)

    def reads_weights_at(self, step: int) -> bool:
        """Whether the weights are evaluated, saved or pruned, and so must be finite."""
        return self.evaluates_at(step) or self.saves_at(step) or self.enters_stage_at(step)

    def logs_at(self, step: int) -> bool:
        """Whether the losses are logged: at step 1, then every ``log.every_steps``."""
        return step == 1 or step % self._log_every == 0

    def evaluates_at(self, step: int) -> bool:
        """Whether the validation pairs are evaluated."""
        return _is_due(step, self._evaluate_every)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is saved."""
        return _is_due(step, self._save_every)

    def diagnoses_at(self, step: int) -> bool:
        """Whether a gradient snapshot is saved: at step 1, then every ``log.diagnose_every_steps``."""
        return self._diagnose_every > 0 and (step == 1 or step % self._diagnose_every == 0)

    def enters_stage_at(self, step: int) -> bool:
        """Whether the next step is the first of another phase."""
        return any(phase.start == step for phase in self.phases[1:])

    def masks_due_at(self, step: int) -> bool:
        """Whether a mask snapshot is saved: while masks are learned, when they are fixed, and at the end."""
        if not self._has_masks:
            return False
        phase = self.phase(step)
        every = max(1, (phase.end - phase.start) // NUM_MASK_SNAPSHOTS)
        is_last = phase.stage is not None and step == phase.end
        return step == phase.start or is_last or (phase.gates is not None and (step - phase.start) % every == 0)


def _is_due(step: int, every_steps: int) -> bool:
    return every_steps > 0 and step % every_steps == 0


TOLERANCE = 0.01  # relative; a smaller difference is no jump


def check_phase(before: RunConfig, after: RunConfig, step: int) -> None:
    """Refuse a fork whose phase after ``step`` steps differs from that of its parent's checkpoint."""
    was, now = (phase_at(phases(config), step) for config in (before, after))
    if (was.stage, was.gates is None) != (now.stage, now.gates is None):
        raise ValueError(
            f"at step {step} the parent is in {was}, and with {after.train.num_steps} steps the fork would be in "
            f"{now}: keep --steps {before.train.num_steps}, or start elsewhere with --at STEP"
        )


def jumps(before: RunConfig, after: RunConfig, step: int) -> Iterator[str]:
    """One sentence per schedule that jumps at the start of a fork after ``step`` shared steps, with both values.

    Settings that were changed for the fork are left out: their jump is intended.
    """
    last = min(step, before.train.num_steps - 1)  # after the parent's last step its learning rate is 0
    was, now = phase_at(phases(before), last), phase_at(phases(after), step)
    ends = f"the schedule ends at step {now.end}, the parent's at step {was.end}"
    peaks = before.optimizer.learning_rate, after.optimizer.learning_rate
    rates = was.learning_rate(last, before.optimizer), now.learning_rate(step, after.optimizer)
    if peaks[0] == peaks[1] and _differ(*rates):
        lower = f"; --set optimizer.learning_rate={peaks[1] * rates[0] / rates[1]:.3g} continues from there"
        yield f"the learning rate jumps from {rates[0]:.3g} to {rates[1]:.3g}: {ends}{lower if rates[1] else ''}"
    for name, loss in after.loss.items():
        if name in before.loss:
            yield from _weight(name, before.loss[name], loss, step)
    yield from _masks(was, now, step)


def _weight(name: str, before: LossConfig, after: LossConfig, step: int) -> Iterator[str]:
    was, now = before.schedule, after.schedule
    if (was.value, was.initial) == (now.value, now.initial) and _differ(was.at(step), now.at(step)):
        yield (
            f"loss.{name}.weight jumps from {was.at(step):.3g} to {now.at(step):.3g}: its schedule is stretched "
            f"with --steps; --set loss.{name}.weight={was.at(step):.3g} keeps it"
        )


def _masks(was: Phase, now: Phase, step: int) -> Iterator[str]:
    if was.gates is None or now.gates is None:
        return
    shares = [min(1.0, (step - phase.start) / phase.gates.ramp_steps) for phase in (was, now) if phase.gates]
    if _differ(*shares):
        yield f"the masks' target sparsity jumps from {shares[0]:.0%} to {shares[1]:.0%} of its ramp"
    if _differ(was.gates.learning_rate, now.gates.learning_rate):
        yield (f"the masks' learning rate jumps from {was.gates.learning_rate:.3g} to {now.gates.learning_rate:.3g}")


def _differ(before: float, after: float) -> bool:
    return abs(before - after) > TOLERANCE * max(abs(before), abs(after))
