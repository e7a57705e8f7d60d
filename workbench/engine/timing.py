"""Training steps of a cohort, timed by part, for forecasts."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from workbench.embeddings import Batch
from workbench.engine.cohort import Cohort
from workbench.engine.device import now_s
from workbench.engine.teacher_outputs import TeacherOutputs


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
