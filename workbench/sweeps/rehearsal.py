"""A few steps of a study's cohorts, taken to see what they cost, and thrown away."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from workbench.engine.build import build_cohort, evaluated_splits, make_evaluator
from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb
from workbench.engine.doctor.forecast import num_validations
from workbench.engine.member import Member
from workbench.sweeps.plan import Group

NUM_STEPS = 3  # the first warms up and is not counted
MOST_CELLS = 8
SOME_PAIRS = 200
STATE_COPIES = 4  # weights, gradients and Adam's two moments stay; activations come and go
MIB = 2**20


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
            costs |= _measure(cohort)
    return costs


def _measure(cohort: Cohort) -> dict[str, Cost]:
    wait_s, teach_s, learn_s = _take_steps(cohort)
    peak_mb = peak_memory_mb(cohort.device)
    num_steps, views = cohort.num_steps, cohort.members[0].config.data.views
    num_pairs = len(cohort.stream.dataset)
    num_taught = min(num_steps, views * max(1, num_pairs // cohort.batch_size)) if views else num_steps
    test_s, validation_s, teacher_s, metrics = _evaluation(cohort)
    own_mb = {member.run: _state_mb(member) for member in cohort.members}
    return {
        member.run: Cost(
            own_s=num_steps * learn_s[member.run] + test_s + num_validations(member.config) * validation_s,
            shared_s=num_steps * wait_s + num_taught * teach_s + teacher_s,
            own_mb=own_mb[member.run],
            peak_mb=peak_mb - sum(own_mb.values()) + own_mb[member.run],
            metrics=metrics,
        )
        for member in cohort.members
    }


def _take_steps(cohort: Cohort) -> tuple[float, float, dict[str, float]]:
    """Mean seconds of a step's waiting, teaching, and each member's learning."""
    waits, teaches = [], []
    learns: dict[str, list[float]] = {member.run: [] for member in cohort.members}
    with closing(cohort.batches()) as batches:
        start = _now(cohort.device)
        for step, batch in batches:
            got = _now(cohort.device)
            lesson = cohort.teach(batch, step)
            before = _now(cohort.device)
            waits.append(got - start)
            teaches.append(before - got)
            for member in cohort.members:
                member.learn(batch, lesson, step)
                after = _now(cohort.device)
                learns[member.run].append(after - before)
                before = after
            if len(waits) == NUM_STEPS:
                break
            start = before
    return _mean(waits), _mean(teaches), {run: _mean(times_s) for run, times_s in learns.items()}


def _evaluation(cohort: Cohort) -> tuple[float, float, float, frozenset[str]]:
    """Seconds of a student's test, of its validation, and of the teacher's part in both; and what is measured."""
    member, teacher = cohort.members[0], cohort.teacher
    splits = evaluated_splits(member.config.data)
    if not splits:
        return 0.0, 0.0, 0.0, frozenset()
    role, spec, number = splits[0]
    block_size = member.config.evaluate.block_size
    few = make_evaluator(spec, role, min(number or SOME_PAIRS, SOME_PAIRS), teacher, block_size, cohort.device)
    teacher_s = few.measure_teacher().elapsed_s / few.pairs.num_images if teacher else 0.0
    measured = few.measure(member.state.student, member.state.learnt, member.objective.losses)
    student_s = measured.elapsed_s / few.pairs.num_images
    sizes = {split: evaluator.pairs.num_images for split, evaluator in cohort.evaluators.items()}
    num_test, num_validation = sizes.get("test", 0), sizes.get("validation", 0)
    asked = (num_test + num_validation) * teacher_s
    return num_test * student_s, num_validation * student_s, asked, frozenset(measured.metrics)


def _state_mb(member: Member) -> float:
    return STATE_COPIES * sum(p.numel() * p.element_size() for p in member.state.parameters()) / MIB


def _mean(times_s: Sequence[float]) -> float:
    counted = times_s[1:] or times_s
    return sum(counted) / len(counted)


def _now(device: torch.device) -> float:
    """The time at which all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()
