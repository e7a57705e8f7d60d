"""Steps of a cohort with a stopwatch in hand: what each waits for, teaches and learns, for forecasts."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from workbench.embeddings import Batch
from workbench.engine.cohort import Cohort
from workbench.engine.device import now_s
from workbench.engine.teacher_outputs import TeacherOutputs


@dataclass(frozen=True)
class Lap:
    """Seconds of one step: waiting for the batch, teaching, and each member's learning by its run."""

    wait_s: float
    teacher_forward_s: float
    learn_s: Mapping[str, float]

    @property
    def step_s(self) -> float:
        return self.wait_s + self.teacher_forward_s + sum(self.learn_s.values())


def laps(cohort: Cohort) -> Generator[tuple[Batch, TeacherOutputs | None, Lap], None, None]:
    """The cohort's steps from where it is, one member after another; close it to stop.

    Raises:
        ValueError: the batches cannot be made.
    """
    with closing(cohort.batches()) as batches:
        start_s = now_s(cohort.device)
        for step, batch in batches:
            got_s = now_s(cohort.device)
            teacher_outputs = cohort.teacher_forward(batch, step)
            taught_s = before_s = now_s(cohort.device)
            learn_s = {}
            for member in cohort.members:
                member.learn(batch, teacher_outputs, step)
                after_s = now_s(cohort.device)
                learn_s[member.run] = after_s - before_s
                before_s = after_s
            yield batch, teacher_outputs, Lap(got_s - start_s, taught_s - got_s, learn_s)
            start_s = now_s(cohort.device)


def mean_lap(taken: Sequence[Lap]) -> Lap:
    """The mean of the steps after the first, which warms up; of that one if there is no other."""
    counted = taken[1:] or taken
    number = len(counted)
    return Lap(
        wait_s=sum(lap.wait_s for lap in counted) / number,
        teacher_forward_s=sum(lap.teacher_forward_s for lap in counted) / number,
        learn_s={run: sum(lap.learn_s[run] for lap in counted) / number for run in counted[0].learn_s},
    )
