"""Seconds of training steps: measured on a few steps, or estimated from a few pairs where one step takes long."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean

import torch

from workbench.embeddings import Batch, InputSpec
from workbench.engine.cohort import Cohort
from workbench.engine.device import now_s, peak_memory_mb
from workbench.engine.member import Member
from workbench.engine.step import encode
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.models.teacher import Teacher
from workbench.progress import phase

SIZES = (2, 8)  # pairs of a measurement; the first is a warm-up
LONG_S = 1.0  # if the warm-up takes longer, it is the measurement
FORWARD = 1 / 3  # of the time of a forward and backward


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
    """Train the cohort, one member after another, and time every step; close the generator to stop."""
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
            start_s = now_s(cohort.device)  # what the caller did with the step does not count


def mean_timing(taken: Sequence[StepTiming]) -> StepTiming:
    """The mean over all steps but the first, which is a warm-up; the first if it is the only one."""
    counted = taken[1:] or taken
    return StepTiming(
        wait_s=fmean(timing.wait_s for timing in counted),
        teacher_forward_s=fmean(timing.teacher_forward_s for timing in counted),
        learn_s={run: fmean(timing.learn_s[run] for timing in counted) for run in counted[0].learn_s},
    )


@dataclass(frozen=True)
class PairCost:
    """Seconds and MiB per pair, without waiting for data, losses and optimizer.

    Attributes:
        teacher_forward_s: 0 if no loss needs the teacher.
        learn_s: forward and backward of each member, by run id.
        grown_mb: growth of peak memory.
        chunk_size: rows of each forward of the teacher.
    """

    teacher_forward_s: float
    learn_s: Mapping[str, float]
    grown_mb: float
    chunk_size: int

    def timing(self, batch_size: int) -> StepTiming:
        """The timing of a step with this batch size."""
        learn_s = {run: batch_size * pair_s for run, pair_s in self.learn_s.items()}
        return StepTiming(wait_s=0.0, teacher_forward_s=self.teacher_s(batch_size), learn_s=learn_s)

    def teacher_s(self, num_pairs: int) -> float:
        """Seconds of the teacher's forwards on ``num_pairs`` pairs, padding included."""
        return -(-num_pairs // self.chunk_size) * self.chunk_size * self.teacher_forward_s

    def student_s(self) -> float:
        """Seconds per pair of the slowest student's forward."""
        return FORWARD * max(self.learn_s.values())


def time_pairs(cohort: Cohort) -> PairCost:
    """Time every model of the cohort on a few pairs; weights do not change and gradients are cleared."""
    before_mb = peak_memory_mb(cohort.device)
    needs_teacher = any(member.objective.needs_teacher for member in cohort.members)
    teacher = cohort.teacher if needs_teacher and not cohort.cached else None
    with phase("timing a few pairs", len(cohort.members) + bool(teacher)) as shown:
        teacher_forward_s = 0.0
        if teacher:
            live = [member for member, cache in zip(teacher.members, cohort.caches, strict=True) if cache is None]
            teacher_forward_s = sum(_teacher_forward_s(cohort, member) for member in live)
            shown.advance()
        learn_s = {}
        for member in cohort.members:
            learn_s[member.run] = _learn_s(cohort, member)
            shown.advance()
    grown_mb = (peak_memory_mb(cohort.device) - before_mb) / max(SIZES)
    return PairCost(teacher_forward_s, learn_s, grown_mb, cohort.teacher.chunk_size if cohort.teacher else 1)


def _teacher_forward_s(cohort: Cohort, teacher: Teacher) -> float:
    def teacher_forward(num_pairs: int) -> None:
        batch = _batch(cohort, teacher.input_spec, num_pairs)
        teacher.in_chunks_of(num_pairs).embed(batch.student_image_BCHW, batch.student_text_BL)

    return _pair_s(cohort, teacher_forward)


def _learn_s(cohort: Cohort, member: Member) -> float:
    train, input_spec = member.config.train, member.state.student.input_spec
    member.prepare_step(0)
    member.state.student.eval()  # so that batch-norm statistics do not change

    def learn(num_pairs: int) -> None:
        batch = _batch(cohort, input_spec, num_pairs)
        encoded = encode(member.state, member.masked(batch, 0), member.objective.loss_inputs(0), train.precision)
        total = torch.stack([tensor.float().sum() for tensor in encoded.tensors().values()]).sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    pair_s = _pair_s(cohort, learn)
    member.state.optimizer.zero_grad(set_to_none=True)
    member.state.student.train()
    again = FORWARD if 0 < member.micro_batches.size < train.batch_size else 0.0  # micro-batches take one more forward
    return pair_s * (1 + again)


def _batch(cohort: Cohort, input_spec: InputSpec, num_pairs: int) -> Batch:
    """Blank images and captions of the data; the time of a step does not depend on their content."""
    dataset = cohort.stream.dataset
    captions = [dataset.text(index % len(dataset)).captions[0] for index in range(num_pairs)]
    image_BCHW = torch.zeros(num_pairs, 3, input_spec.image_size, input_spec.image_size, dtype=torch.uint8)
    keys = tuple(str(number) for number in range(num_pairs))
    return Batch(keys, image_BCHW, input_spec.tokenize(captions)).to(cohort.device)


def _pair_s(cohort: Cohort, work: Callable[[int], object]) -> float:
    """Seconds per pair of ``work``."""
    pair_s = 0.0
    for num_pairs in SIZES:
        start_s = now_s(cohort.device)
        work(num_pairs)
        taken_s = now_s(cohort.device) - start_s
        pair_s = taken_s / num_pairs
        if taken_s > LONG_S:
            break
    return pair_s
