"""A few steps of a study's cohorts, taken to see what they cost, and thrown away."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from workbench.data.spec import evaluated_splits
from workbench.engine.build import build_cohort, make_evaluator
from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb
from workbench.engine.doctor.forecast import num_new_steps, num_validations
from workbench.engine.estimate import estimate_step
from workbench.engine.laps import Lap, laps, mean_lap
from workbench.engine.member import Member
from workbench.limits import MIB
from workbench.progress import track
from workbench.sweeps.plan import Group
from workbench.views.units import duration

NUM_STEPS = 3
MOST_CELLS = 8
SOME_PAIRS = 200
FEW_PAIRS = 8  # where more would take long
MAX_TIME_S = 120.0  # of the steps of one cohort; where they would take longer they are estimated
STATE_COPIES = 4  # weights, gradients and Adam's two moments stay; activations come and go


@dataclass(frozen=True)
class Cost:
    """Seconds and MiB of one cell's whole run.

    ``shared_s`` is paid once for all that train together: waiting for batches and asking the teacher.
    """

    own_s: float
    shared_s: float
    own_mb: float
    peak_mb: float
    metrics: frozenset[str]


def rehearse(groups: Iterable[Group], runs_dir: Path, say: Callable[[str], None]) -> dict[str, Cost]:
    """What the first cells cost, by name, measured on a few steps of each.

    Raises:
        ValueError: settings that training would refuse.
    """
    costs: dict[str, Cost] = {}
    for group in groups:
        cells = [cell for cell in group.cells if cell.name not in costs][: MOST_CELLS - len(costs)]
        if cells:
            say(f"taking {NUM_STEPS} steps of {', '.join(cell.name for cell in cells)}")
            cohort = build_cohort({cell.name: cell.at(group.seed) for cell in cells}, runs_dir=runs_dir)
            costs |= _measure(cohort, say)
    return costs


def _measure(cohort: Cohort, say: Callable[[str], None]) -> dict[str, Cost]:
    estimate = estimate_step(cohort)
    lap = estimate.lap(cohort.batch_size)
    expected_s = NUM_STEPS * lap.step_s + estimate.teacher_s(SOME_PAIRS) + SOME_PAIRS * estimate.student_s()
    is_slow = expected_s > MAX_TIME_S
    if is_slow:
        say(f"a step takes about {duration(lap.step_s)}: estimated from a few pairs, and not tried")
        grown_mb = cohort.batch_size * estimate.grown_mb
    else:
        lap, grown_mb = _lap(cohort), 0.0
    peak_mb = peak_memory_mb(cohort.device) + grown_mb
    num_steps, num_taught = cohort.num_steps, num_new_steps(cohort)
    test_s, validation_s, teacher_s, metrics = _evaluation(cohort, FEW_PAIRS if is_slow else SOME_PAIRS)
    own_mb = {member.run: _state_mb(member) for member in cohort.members}
    return {
        member.run: Cost(
            own_s=num_steps * lap.learn_s[member.run] + test_s + num_validations(member.config) * validation_s,
            shared_s=num_steps * lap.wait_s + num_taught * lap.teach_s + teacher_s,
            own_mb=own_mb[member.run],
            peak_mb=peak_mb - sum(own_mb.values()) + own_mb[member.run],
            metrics=metrics,
        )
        for member in cohort.members
    }


def _lap(cohort: Cohort) -> Lap:
    """A step's mean seconds."""
    with closing(laps(cohort)) as steps:
        return mean_lap([lap for _, _, lap in track(islice(steps, NUM_STEPS), "taking steps", NUM_STEPS)])


def _evaluation(cohort: Cohort, some_pairs: int) -> tuple[float, float, float, frozenset[str]]:
    """Seconds of a student's test, of its validation, and of the teacher's part in both; and what is measured."""
    member, teacher = cohort.members[0], cohort.teacher
    if teacher and some_pairs < teacher.chunk_size:
        teacher = teacher.in_chunks_of(some_pairs)
    splits = evaluated_splits(member.config.data)
    if not splits:
        return 0.0, 0.0, 0.0, frozenset()
    role, spec, number = splits[0]
    block_size, bad_shards = member.config.evaluate.block_size, member.config.data.bad_shards
    num_pairs = min(number or some_pairs, some_pairs)
    few = make_evaluator(spec, role, num_pairs, teacher, block_size, cohort.device, bad_shards=bad_shards)
    teacher_s = few.measure_teacher().elapsed_s / few.pairs.num_images if teacher else 0.0
    measured = few.measure(member.state.student, member.state.learnt, member.objective.losses)
    student_s = measured.elapsed_s / few.pairs.num_images
    sizes = {split: evaluator.pairs.num_images for split, evaluator in cohort.evaluators.items()}
    num_test, num_validation = sizes.get("test", 0), sizes.get("validation", 0)
    asked = (num_test + num_validation) * teacher_s
    return num_test * student_s, num_validation * student_s, asked, frozenset(measured.metrics)


def _state_mb(member: Member) -> float:
    return STATE_COPIES * sum(p.numel() * p.element_size() for p in member.state.parameters()) / MIB
