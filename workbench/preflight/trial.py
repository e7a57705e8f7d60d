"""Take a few steps and an evaluation of a run before it starts, to measure time, memory, and what goes wrong."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from workbench.data.spec import Role, evaluated_splits
from workbench.embeddings import Batch
from workbench.engine.build import make_evaluator
from workbench.engine.cohort import Cohort
from workbench.engine.device import now_s, peak_memory_mb
from workbench.engine.evaluate import Measured
from workbench.engine.gradients import Remark, examine, member_gradients
from workbench.engine.loop import is_out_of_memory
from workbench.engine.step import Divergence
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.preflight.timing import StepTiming, mean_timing, step_timings
from workbench.progress import phase

Result = TypeVar("Result")
FirstBatch = tuple[Batch, TeacherOutputs | None]

LEAST_STEPS = 3
MOST_STEPS = 40
ENOUGH_S = 3.0  # of steps, once there are LEAST_STEPS
TOO_LONG_S = 60.0  # of steps, even if there are fewer


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
    """Take a few steps of a cohort of one, and restore its weights; None if memory runs out."""
    (member,) = cohort.members
    # On the CPU: a second copy on the GPU would count as peak memory.
    initial = {name: tensor.cpu().clone() for name, tensor in member.state.state_dict().items()}
    taken = _if_it_fits(lambda: take_steps(cohort))
    if taken is None:
        return None
    trial, first = taken
    member.state.load_state_dict(initial)
    # A gradient snapshot needs more memory than a step; training does not depend on it.
    shares = None if trial.divergence else _if_it_fits(lambda: _shares(cohort, *first))
    remarks = _if_it_fits(lambda: examine(member, *first, 0))
    return replace(trial, shares=shares or {}, remarks=tuple(remarks or ()))


def take_steps(cohort: Cohort, most_steps: int = MOST_STEPS) -> tuple[StepTrial, FirstBatch]:
    """The trial without shares and remarks, and the first batch with its teacher outputs; weights are not restored."""
    taken: list[StepTiming] = []
    first: FirstBatch | None = None
    num_replaced = 0
    if cohort.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(cohort.device)
    with closing(step_timings(cohort)) as steps, phase("taking steps") as shown:
        for batch, teacher_outputs, timing in steps:
            taken.append(timing)
            first = first or (batch, teacher_outputs)
            num_replaced += len(batch.replaced)
            shown.advance()
            if _is_enough(taken, most_steps):
                break
    assert first is not None
    peak_mb = peak_memory_mb(cohort.device)
    start_s = now_s(cohort.device)
    cohort.teacher_forward(first[0], 0)
    trial = StepTrial(
        num_steps=len(taken),
        timing=mean_timing(taken),
        teacher_again_s=now_s(cohort.device) - start_s,
        peak_mb=peak_mb,
        divergence=next(filter(None, (member.divergence.found() for member in cohort.members)), None),
        num_pairs=len(taken) * cohort.batch_size,
        num_replaced=num_replaced,
    )
    return trial, first


@dataclass(frozen=True)
class EvaluationTrial:
    """An evaluation of the first member, and of the teacher if there is one, on some pairs of a split."""

    split: Role
    student: Measured
    teacher: Measured | None

    @property
    def student_s(self) -> float:
        """Seconds per pair."""
        return self.student.elapsed_s / self.student.num_pairs

    @property
    def teacher_s(self) -> float:
        """Seconds per pair; 0 without a teacher."""
        return self.teacher.elapsed_s / self.teacher.num_pairs if self.teacher else 0.0


def try_evaluation(cohort: Cohort, num_pairs: int) -> EvaluationTrial | None:
    """Evaluate on at most ``num_pairs`` pairs of the first split; None if nothing is evaluated."""
    if not cohort.evaluators:
        return None
    member, teacher = cohort.members[0], cohort.teacher
    split, evaluator = next(iter(cohort.evaluators.items()))
    if evaluator.pairs.num_images > num_pairs:
        if teacher and num_pairs < teacher.chunk_size:
            teacher = teacher.in_chunks_of(num_pairs)
        _, spec, _ = evaluated_splits(member.config.data)[0]
        evaluator = make_evaluator(member.config, spec, split, num_pairs, teacher, cohort.device)
    # The teacher first: its embeddings are then ready for the student's agreement with it.
    of_teacher = evaluator.measure_teacher() if teacher else None
    of_student = evaluator.measure(member.state.student, member.state.learned, member.objective.losses)
    return EvaluationTrial(split, of_student, of_teacher)


def _if_it_fits(work: Callable[[], Result]) -> Result | None:
    """The result of ``work``; None if memory runs out."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return None
        raise


def _is_enough(taken: list[StepTiming], most_steps: int) -> bool:
    taken_s = sum(timing.step_s for timing in taken)
    if taken_s >= TOO_LONG_S:
        return True
    return len(taken) >= LEAST_STEPS and (len(taken) >= most_steps or taken_s >= ENOUGH_S)


def _shares(cohort: Cohort, batch: Batch, teacher_outputs: TeacherOutputs | None) -> dict[str, float]:
    (member,) = cohort.members
    if len(member.objective.weights_at(0)) < 2:
        return {}
    gradients = member_gradients(member, batch, teacher_outputs, 0)
    return dict(zip(gradients.losses, gradients.share_K.tolist(), strict=True))
