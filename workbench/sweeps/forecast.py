"""Forecast of a study's runs, time and memory: measured on a few steps before it starts, corrected while it runs."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from workbench.data.spec import evaluated_splits
from workbench.engine.build import build_cohort, make_evaluator
from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb, resolve_device
from workbench.engine.member import Member
from workbench.formatting import duration, size
from workbench.preflight.cost import num_new_steps, num_validations
from workbench.preflight.estimate import estimate_step
from workbench.preflight.trial import StepTiming, mean_timing, step_timings
from workbench.process import MIB, MUCH_OF_MEMORY, memory_mb
from workbench.progress import track
from workbench.sweeps.plan import Group

NUM_STEPS = 3
MOST_CELLS = 8
SOME_PAIRS = 200
FEW_PAIRS = 8  # for slow models
MAX_TIME_S = 120.0  # if the measured steps would take longer, they are estimated instead
STATE_COPIES = 4  # weights, gradients and Adam's two moments persist; activations do not


@dataclass(frozen=True)
class Cost:
    """Seconds and MiB of one cell's full run.

    ``shared_s`` is shared by all cells of a cohort: loading batches and teacher forward passes.
    """

    own_s: float
    shared_s: float
    own_mb: float
    peak_mb: float
    metrics: frozenset[str]


def measure_costs(groups: Iterable[Group], runs_dir: Path, notify: Callable[[str], None]) -> dict[str, Cost]:
    """Measured cost of the first cells, by name, on a few steps of each.

    Raises:
        ValueError: settings that training would refuse.
    """
    costs: dict[str, Cost] = {}
    for group in groups:
        cells = [cell for cell in group.cells if cell.name not in costs][: MOST_CELLS - len(costs)]
        if cells:
            notify(f"measuring {NUM_STEPS} steps of {', '.join(cell.name for cell in cells)}")
            cohort = build_cohort({cell.name: cell.at(group.seed) for cell in cells}, runs_dir=runs_dir)
            costs |= _measure(cohort, notify)
    return costs


def _measure(cohort: Cohort, notify: Callable[[str], None]) -> dict[str, Cost]:
    estimate = estimate_step(cohort)
    timing = estimate.timing(cohort.batch_size)
    expected_s = NUM_STEPS * timing.step_s + estimate.teacher_s(SOME_PAIRS) + SOME_PAIRS * estimate.student_s()
    is_slow = expected_s > MAX_TIME_S
    if is_slow:
        notify(f"a step takes about {duration(timing.step_s)}: estimated from a few pairs instead of measured")
        grown_mb = cohort.batch_size * estimate.grown_mb
    else:
        timing, grown_mb = _timing(cohort), 0.0
    peak_mb = peak_memory_mb(cohort.device) + grown_mb
    num_steps, num_taught = cohort.num_steps, num_new_steps(cohort)
    test_s, validation_s, teacher_s, metrics = _evaluation(cohort, FEW_PAIRS if is_slow else SOME_PAIRS)
    own_mb = {member.run: _state_mb(member) for member in cohort.members}
    return {
        member.run: Cost(
            own_s=num_steps * timing.learn_s[member.run] + test_s + num_validations(member.config) * validation_s,
            shared_s=num_steps * timing.wait_s + num_taught * timing.teacher_forward_s + teacher_s,
            own_mb=own_mb[member.run],
            peak_mb=peak_mb - sum(own_mb.values()) + own_mb[member.run],
            metrics=metrics,
        )
        for member in cohort.members
    }


def _timing(cohort: Cohort) -> StepTiming:
    """A step's mean seconds."""
    with closing(step_timings(cohort)) as steps:
        return mean_timing([timing for _, _, timing in track(islice(steps, NUM_STEPS), "taking steps", NUM_STEPS)])


def _evaluation(cohort: Cohort, some_pairs: int) -> tuple[float, float, float, frozenset[str]]:
    """Seconds of (one student's test, one validation, the teacher's evaluation on both), and the metrics' names."""
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
    # The teacher is evaluated once per split, students at every evaluation.
    all_teacher_s = (num_test + num_validation) * teacher_s
    return num_test * student_s, num_validation * student_s, all_teacher_s, frozenset(measured.metrics)


def _state_mb(member: Member) -> float:
    return STATE_COPIES * sum(p.numel() * p.element_size() for p in member.state.parameters()) / MIB


@dataclass(frozen=True)
class SweepForecast:
    """The remaining cost of a study on this machine.

    Attributes:
        num_runs: remaining runs; ``num_done`` have ended.
        at_once: cells that train together.
        total_s: seconds until all runs have ended, with the requested number of processes.
        peak_mb, room_mb: MiB needed and available.
        run_s: seconds of each cell's run as a member of such a cohort.
        later_s: seconds of runs that depend on others, such as the confirmation of a search.
    """

    num_runs: int
    num_done: int
    at_once: int
    total_s: float
    peak_mb: float
    room_mb: float
    run_s: Mapping[str, float] = field(repr=False)
    later_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """``forecast`` in ``--json``."""
        names = ("num_runs", "num_done", "at_once", "total_s", "peak_mb", "room_mb")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        done = f" ({self.num_done} are done)" if self.num_done else ""
        together = f", {self.at_once} at once" if self.at_once > 1 else ""
        return (
            f"{self.num_runs} runs{done}{together}: about {duration(self.total_s)} and {size(self.peak_mb * MIB)} of "
            f"{size(self.room_mb * MIB)} memory"
        )


def most_at_once(costs: Mapping[str, Cost], room_mb: float) -> int:
    """How many cells fit in memory together, at least one."""
    peak_mb, own_mb = max(cost.peak_mb for cost in costs.values()), max(cost.own_mb for cost in costs.values())
    return max(1, 1 + math.floor((MUCH_OF_MEMORY * room_mb - peak_mb) / own_mb))


def make_forecast(
    groups: Sequence[Group],
    costs: Mapping[str, Cost],
    room_mb: float,
    *,
    later: Sequence[Group] = (),
    num_done: int = 0,
    workers: int = 1,
) -> SweepForecast:
    """The forecast for the remaining groups; cells that were not measured get the mean cost.

    Processes share the groups; the total is at least that of the longest group.

    Args:
        later: groups that can only start after the others.
    """
    group_s = [_group_s(group, costs) for group in groups]
    later_s = [_group_s(group, costs) for group in later]
    every = (*groups, *later)
    at_once = max((len(group.cells) for group in every), default=0)
    # One member's peak covers data, teacher and activations; each further member adds its persistent state.
    peak_mb = max(cost.peak_mb for cost in costs.values()) + (at_once - 1) * max(c.own_mb for c in costs.values())
    return SweepForecast(
        num_runs=sum(len(group.cells) for group in every),
        num_done=num_done,
        at_once=at_once,
        total_s=sum(max(sum(part_s) / workers, *part_s, 0.0) for part_s in (group_s, later_s)),
        peak_mb=workers * peak_mb,
        room_mb=room_mb,
        run_s={cell.name: _run_s(cell.name, group, costs) for group in groups for cell in group.cells},
        later_s=sum(later_s),
    )


def _group_s(group: Group, costs: Mapping[str, Cost]) -> float:
    return sum(_run_s(cell.name, group, costs) for cell in group.cells)


def _run_s(name: str, group: Group, costs: Mapping[str, Cost]) -> float:
    """A cell's own seconds plus its part of the cohort's shared ones."""
    shared_s = max(_cost(cell.name, costs).shared_s for cell in group.cells)
    return _cost(name, costs).own_s + shared_s / len(group.cells)


def _cost(name: str, costs: Mapping[str, Cost]) -> Cost:
    if name in costs:
        return costs[name]
    known = list(costs.values())
    return Cost(
        own_s=sum(cost.own_s for cost in known) / len(known),
        shared_s=max(cost.shared_s for cost in known),
        own_mb=max(cost.own_mb for cost in known),
        peak_mb=max(cost.peak_mb for cost in known),
        metrics=known[0].metrics,
    )


def room_mb(device: str) -> float:
    """MiB available to a cohort on its device: free memory plus what this process holds already."""
    place = resolve_device(device)
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0] / MIB + peak_memory_mb(place)
    total_mb, free_mb = memory_mb()
    return min(total_mb, free_mb + peak_memory_mb(place))


class Clock:
    """Remaining time of a study: the forecast, scaled by actual over forecast time so far.

    Args:
        run_s: forecast seconds of each cell's run; if empty, all runs count the same, and nothing is reported before
            the first has ended.
        later_s: forecast seconds of all later runs; their number if ``run_s`` is empty.
        workers: processes that share the remaining runs.
    """

    def __init__(self, run_s: Mapping[str, float] = {}, later_s: float = 0.0, workers: int = 1) -> None:
        self._run_s = run_s
        self._later_s = later_s
        self._mean_s = sum(run_s.values()) / len(run_s) if run_s else 1.0
        self._workers = workers
        self._forecast_s = self._taken_s = 0.0
        self._since = time.monotonic()

    def start(self) -> None:
        """Start timing a group."""
        self._since = time.monotonic()

    def stop(self, cells: Iterable[str]) -> None:
        """Stop timing the group of these cells."""
        self._taken_s += time.monotonic() - self._since
        self._forecast_s += sum(self._of(name) for name in cells)

    def left(self, cells: Iterable[str], more: float = 0.0) -> str:
        """Remaining time as text for these runs (a name each) and ``more`` others; empty if unknown."""
        if not self._forecast_s and not self._run_s:
            return ""
        pace = self._taken_s / self._forecast_s if self._forecast_s else 1.0
        left_s = pace * (sum(self._of(name) for name in cells) + more * self._mean_s + self._later_s) / self._workers
        return f"; about {duration(left_s)} left"

    def _of(self, name: str) -> float:
        return self._run_s.get(name, self._mean_s)
