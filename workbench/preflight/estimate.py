"""Estimate the time of a run, and of examining it, from a few pairs: for machines where even a few steps take long."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from workbench.embeddings import Batch, InputSpec
from workbench.engine.cohort import Cohort
from workbench.engine.device import now_s, peak_memory_mb
from workbench.engine.member import Member
from workbench.engine.start_checks import Finding
from workbench.engine.step import encode
from workbench.engine.teacher_outputs import fits_in_memory
from workbench.formatting import duration
from workbench.models.teacher import Teacher
from workbench.preflight.checks import NUM_PAIRS as NUM_LOOKED_AT
from workbench.preflight.cost import FASTER, all_evaluations, num_new_steps, time_finding
from workbench.preflight.trial import LEAST_STEPS, StepTiming
from workbench.progress import phase

SIZES = (2, 8)  # pairs of a measurement; the first is a warm-up
LONG_S = 1.0  # if the warm-up takes longer, it is the measurement
FORWARD = 1 / 3  # of the time of a forward and backward


@dataclass(frozen=True)
class Estimate:
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


def estimate_step(cohort: Cohort) -> Estimate:
    """Time every model of the cohort on a few pairs; weights do not change and gradients are cleared."""
    before_mb = peak_memory_mb(cohort.device)
    needs_teacher = any(member.objective.needs_teacher for member in cohort.members)
    teacher = cohort.teacher if needs_teacher and not cohort.cached else None
    with phase("timing a few pairs", len(cohort.members) + bool(teacher)) as shown:
        teacher_forward_s = 0.0
        if teacher:
            teacher_forward_s = _teacher_forward_s(cohort, teacher)
            shown.advance()
        learn_s = {}
        for member in cohort.members:
            learn_s[member.run] = _learn_s(cohort, member)
            shown.advance()
    grown_mb = (peak_memory_mb(cohort.device) - before_mb) / max(SIZES)
    return Estimate(teacher_forward_s, learn_s, grown_mb, cohort.teacher.chunk_size if cohort.teacher else 1)


def _teacher_forward_s(cohort: Cohort, teacher: Teacher) -> float:
    def teacher_forward(num_pairs: int) -> None:
        batch = _batch(cohort, teacher.form, num_pairs)
        teacher.in_chunks_of(num_pairs).embed(batch.student_image_BCHW, batch.student_text_BL)

    return _pair_s(cohort, teacher_forward)


def _learn_s(cohort: Cohort, member: Member) -> float:
    train, form = member.config.train, member.state.student.form
    member.prepare_step(0)
    member.state.student.eval()  # so that batch-norm statistics do not change

    def learn(num_pairs: int) -> None:
        batch = _batch(cohort, form, num_pairs)
        encoded = encode(member.state, member.masked(batch, 0), member.objective.loss_inputs(0), train.precision)
        total = torch.stack([tensor.float().sum() for tensor in encoded.tensors().values()]).sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    pair_s = _pair_s(cohort, learn)
    member.state.optimizer.zero_grad(set_to_none=True)
    member.state.student.train()
    again = FORWARD if 0 < train.micro_batch_size < train.batch_size else 0.0  # micro-batches take one more forward
    return pair_s * (1 + again)


def _batch(cohort: Cohort, form: InputSpec, num_pairs: int) -> Batch:
    """Blank images and captions of the data; the time of a step does not depend on their content."""
    dataset = cohort.stream.dataset
    captions = [dataset.text(index % len(dataset)).captions[0] for index in range(num_pairs)]
    image_BCHW = torch.zeros(num_pairs, 3, form.image_size, form.image_size, dtype=torch.uint8)
    keys = tuple(str(number) for number in range(num_pairs))
    return Batch(keys, image_BCHW, form.tokenize(captions)).to(cohort.device)


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


@dataclass(frozen=True)
class RunEstimate:
    """Estimated seconds of one step, of the whole run, and of doctor's trial steps and evaluations."""

    step_s: float
    total_s: float
    trial_s: float

    def to_json(self) -> dict[str, Any]:
        """The ``estimate`` of ``--json``."""
        return asdict(self)

    def finding(self, cohort: Cohort) -> Finding:
        """The finding of a run whose trial steps were skipped."""
        message = (
            f"this machine would need about {duration(self.total_s)} for {cohort.num_steps:,} steps of "
            f"{cohort.batch_size:,} pairs, estimated from a few pairs; a trial would take {duration(self.trial_s)}"
        )
        found = time_finding(message, self.total_s)
        return found if found.remedy else Finding("time", "warning", message, f"--max-time 0 tries it; {FASTER}")


def estimate_run(cohort: Cohort, num_measured: int) -> RunEstimate:
    """Estimate the run of a cohort of one from a forward and backward on a few pairs.

    Args:
        num_measured: held-out pairs that doctor would evaluate.
    """
    found = estimate_step(cohort)
    timing = found.timing(cohort.batch_size)
    new_steps = num_new_steps(cohort) if _stores_teacher_outputs(cohort) else cohort.num_steps
    evaluations = all_evaluations(cohort, found.student_s(), found.teacher_forward_s)
    return RunEstimate(
        step_s=timing.step_s,
        total_s=cohort.num_steps * (timing.step_s - timing.teacher_forward_s)
        + new_steps * timing.teacher_forward_s
        + evaluations.total_s,
        trial_s=_trial_s(cohort, found, num_measured),
    )


def _trial_s(cohort: Cohort, found: Estimate, num_measured: int) -> float:
    """Seconds of affinities, trial steps, one more teacher forward, gradient shares, and an evaluation."""
    (member,) = cohort.members
    timing = found.timing(cohort.batch_size)
    affinities_s = (1 + bool(cohort.evaluators)) * found.teacher_s(NUM_LOOKED_AT)
    num_losses = len(member.objective.weights_at(0))
    shares_s = (FORWARD + num_losses * (1 - FORWARD)) * timing.learn_s[member.run] if num_losses > 1 else 0.0
    measuring_s = found.teacher_s(num_measured) + num_measured * found.student_s()
    return affinities_s + LEAST_STEPS * timing.step_s + timing.teacher_forward_s + shares_s + measuring_s


def _stores_teacher_outputs(cohort: Cohort) -> bool:
    views = cohort.members[0].config.data.views
    width = cohort.teacher.width if cohort.teacher else 1
    return fits_in_memory(views * len(cohort.stream.dataset), width)
