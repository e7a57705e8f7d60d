"""Take a few steps of a run to measure time and memory, then restore its weights."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from workbench.embeddings import Batch
from workbench.engine.cohort import Cohort
from workbench.engine.contributions import Remark, examine
from workbench.engine.device import now_s, peak_memory_mb
from workbench.engine.gradients import diagnose
from workbench.engine.loop import is_out_of_memory
from workbench.engine.step import Divergence
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.progress import phase

Found = TypeVar("Found")

LEAST_STEPS = 3
MOST_STEPS = 40
ENOUGH_S = 3.0  # of steps, once there are LEAST_STEPS
TOO_LONG_S = 60.0  # of steps, even if there are fewer


@dataclass(frozen=True)
class StepTiming:
    """Seconds of one step: wait for the batch, teacher forward, and the train step of each member, by run id."""

    wait_s: float
    teacher_forward_s: float
    learn_s: Mapping[str, float]

    @property
    def step_s(self) -> float:
        return self.wait_s + self.teacher_forward_s + sum(self.learn_s.values())


def step_timings(cohort: Cohort) -> Generator[tuple[Batch, TeacherOutputs | None, StepTiming], None, None]:
    """Train the cohort, one member after another, and time every step; close the generator to stop.

    Raises:
        ValueError: too many bad images.
    """
    with closing(cohort.batches()) as batches:
        start_s = now_s(cohort.device)
        for step, batch in batches:
            got_s = now_s(cohort.device)
            teacher_outputs = cohort.teacher_forward(batch, step)
            forward_s = before_s = now_s(cohort.device)
            learn_s = {}
            for member in cohort.members:
                member.train_step(batch, teacher_outputs, step)
                after_s = now_s(cohort.device)
                learn_s[member.run] = after_s - before_s
                before_s = after_s
            yield batch, teacher_outputs, StepTiming(got_s - start_s, forward_s - got_s, learn_s)
            start_s = now_s(cohort.device)


def mean_timing(taken: Sequence[StepTiming]) -> StepTiming:
    """The mean over all steps but the first, which is a warm-up; the first if it is the only one."""
    counted = taken[1:] or taken
    number = len(counted)
    return StepTiming(
        wait_s=sum(timing.wait_s for timing in counted) / number,
        teacher_forward_s=sum(timing.teacher_forward_s for timing in counted) / number,
        learn_s={run: sum(timing.learn_s[run] for timing in counted) / number for run in counted[0].learn_s},
    )


@dataclass(frozen=True)
class StepTrial:
    """The result of the trial steps.

    Attributes:
        timing: the mean over all steps but the first.
        teacher_again_s: teacher forward on a batch seen before; nearly 0 if its outputs are stored.
        peak_mb: of the GPU's allocator, or of the process on a CPU.
        divergence: the first step whose loss or gradient was not finite.
        num_pairs, num_replaced: pairs of the steps, and those with bad images.
        shares: each loss's share of the gradient before the first step; empty for a single loss.
        remarks: on losses that contribute nothing.
    """

    num_steps: int
    timing: StepTiming
    teacher_again_s: float
    peak_mb: float
    divergence: Divergence | None
    num_pairs: int
    num_replaced: int
    shares: dict[str, float] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


def try_steps(cohort: Cohort) -> StepTrial | None:
    """Take a few steps of a cohort of one, and restore its weights; None if memory runs out.

    Raises:
        ValueError: too many bad images.
    """
    (member,) = cohort.members
    # On the CPU: a second copy on the GPU would count as peak memory.
    initial = {name: tensor.cpu().clone() for name, tensor in member.state.state_dict().items()}
    found = _if_it_fits(lambda: _take_steps(cohort))
    if found is None:
        return None
    trial, first = found
    member.state.load_state_dict(initial)
    # A gradient snapshot needs more memory than a step; training does not depend on it.
    shares = None if trial.divergence else _if_it_fits(lambda: _shares(cohort, *first))
    remarks = _if_it_fits(lambda: examine(member, *first, 0))
    return replace(trial, shares=shares or {}, remarks=tuple(remarks or ()))


def _if_it_fits(work: Callable[[], Found]) -> Found | None:
    """The result of ``work``; None if memory runs out."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return None
        raise


def _take_steps(cohort: Cohort) -> tuple[StepTrial, tuple[Batch, TeacherOutputs | None]]:
    """The trial without shares and remarks, and the first batch with its teacher outputs."""
    (member,) = cohort.members
    taken: list[StepTiming] = []
    first: tuple[Batch, TeacherOutputs | None] | None = None
    num_replaced = 0
    if cohort.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(cohort.device)
    with closing(step_timings(cohort)) as steps, phase("taking steps") as shown:
        for batch, teacher_outputs, timing in steps:
            taken.append(timing)
            first = first or (batch, teacher_outputs)
            num_replaced += len(batch.replaced)
            shown.advance()
            if _is_enough(taken):
                break
    assert first is not None
    peak_mb = peak_memory_mb(cohort.device)
    start_s = now_s(cohort.device)
    cohort.teacher_forward(first[0], 0)
    teacher_again_s = now_s(cohort.device) - start_s
    trial = StepTrial(
        num_steps=len(taken),
        timing=mean_timing(taken),
        teacher_again_s=teacher_again_s,
        peak_mb=peak_mb,
        divergence=member.divergence.found(),
        num_pairs=len(taken) * cohort.batch_size,
        num_replaced=num_replaced,
    )
    return trial, first


def _is_enough(taken: list[StepTiming]) -> bool:
    taken_s = sum(timing.step_s for timing in taken)
    if taken_s >= TOO_LONG_S:
        return True
    return len(taken) >= LEAST_STEPS and (len(taken) >= MOST_STEPS or taken_s >= ENOUGH_S)


def _shares(cohort: Cohort, batch: Batch, teacher_outputs: TeacherOutputs | None) -> dict[str, float]:
    (member,) = cohort.members
    if len(member.objective.weights_at(0)) < 2:
        return {}
    train = member.config.train
    found = diagnose(
        member.state,
        member.masked(batch, 0),
        teacher_outputs,
        member.objective,
        0,
        train.precision,
        micro_batch_size=train.micro_batch_size,
    )
    return dict(zip(found.losses, found.share_K.tolist(), strict=True))
