"""Jumps at the start of a fork: schedules whose value differs from the parent's at that step."""

from collections.abc import Iterator

from workbench.config.run import LossConfig, RunConfig
from workbench.engine.cadence import Phase, phase_at, phases

TOLERANCE = 0.01  # relative; a smaller difference is no jump


def check_phase(before: RunConfig, after: RunConfig, step: int) -> None:
    """Refuse a fork whose phase after ``step`` steps differs from that of its parent's checkpoint.

    Raises:
        ValueError: only one of them learns masks, or they are in different stages.
    """
    was, now = (phase_at(phases(config), step) for config in (before, after))
    if (was.stage, was.gates is None) != (now.stage, now.gates is None):
        raise ValueError(
            f"at step {step} the parent is in {was}, and with {after.train.num_steps} steps the fork would be in "
            f"{now}: keep --steps {before.train.num_steps}, or start elsewhere with --at STEP"
        )


def jumps(before: RunConfig, after: RunConfig, step: int) -> Iterator[str]:
    """One sentence per schedule that jumps at the start of a fork, with both values.

    Settings that were changed for the fork are left out: their jump is intended.

    Args:
        before: the parent's settings at its checkpoint.
        after: the fork's.
        step: shared steps.
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


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > TOLERANCE * max(abs(one), abs(other))
