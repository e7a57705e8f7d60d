"""What a run, and looking into it, would take: estimated from a few pairs, for machines that cannot do the work."""

from dataclasses import asdict, dataclass
from typing import Any

from workbench.engine.cohort import Cohort
from workbench.engine.doctor.finding import Finding
from workbench.engine.doctor.forecast import FASTER, all_evaluations, num_new_steps, time_finding
from workbench.engine.doctor.teaching import NUM_PAIRS as NUM_LOOKED_AT
from workbench.engine.doctor.trial import LEAST_STEPS
from workbench.engine.estimate import FORWARD, Estimate, estimate_step
from workbench.engine.lessons import remembers
from workbench.views.units import duration


@dataclass(frozen=True)
class RunEstimate:
    """Seconds of one step, of the whole run, and of what doctor would do to measure both."""

    step_s: float
    total_s: float
    trial_s: float

    def to_json(self) -> dict[str, Any]:
        """The ``estimate`` of ``--json``."""
        return asdict(self)

    def finding(self, cohort: Cohort) -> Finding:
        """What a person should know of a run that was not tried."""
        message = (
            f"this machine would need about {duration(self.total_s)} for {cohort.num_steps:,} steps of "
            f"{cohort.batch_size:,} pairs, estimated from a few pairs; a trial would take {duration(self.trial_s)}"
        )
        found = time_finding(message, self.total_s)
        return found if found.remedy else Finding("time", "warning", message, f"--max-time 0 tries it; {FASTER}")


def estimate_run(cohort: Cohort, num_measured: int) -> RunEstimate:
    """From a forward and backward of a few pairs of a cohort of one.

    Args:
        num_measured: held-out pairs that doctor measures.
    """
    found = estimate_step(cohort)
    lap = found.lap(cohort.batch_size)
    new_steps = num_new_steps(cohort) if _remembers(cohort) else cohort.num_steps
    evaluations = all_evaluations(cohort, found.student_s(), found.teach_s)
    return RunEstimate(
        step_s=lap.step_s,
        total_s=cohort.num_steps * (lap.step_s - lap.teach_s) + new_steps * lap.teach_s + evaluations.total_s,
        trial_s=_trial_s(cohort, found, num_measured),
    )


def _trial_s(cohort: Cohort, found: Estimate, num_measured: int) -> float:
    """Of affinities, steps, one more lesson, the losses' shares, and an evaluation."""
    (member,) = cohort.members
    lap = found.lap(cohort.batch_size)
    affinities_s = (1 + bool(cohort.evaluators)) * found.teacher_s(NUM_LOOKED_AT)
    num_losses = len(member.objective.weights_at(0))
    shares_s = (FORWARD + num_losses * (1 - FORWARD)) * lap.learn_s[member.run] if num_losses > 1 else 0.0
    measuring_s = found.teacher_s(num_measured) + num_measured * found.student_s()
    return affinities_s + LEAST_STEPS * lap.step_s + lap.teach_s + shares_s + measuring_s


def _remembers(cohort: Cohort) -> bool:
    views = cohort.members[0].config.data.views
    width = cohort.teacher.width if cohort.teacher else 1
    return remembers(views * len(cohort.stream.dataset), width)
