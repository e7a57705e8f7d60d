"""Planning a study: checks, groups of cells that train together, and the forecast of their time and memory."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from workbench.config.cells import Cell
from workbench.config.study import Study
from workbench.engine.build import SHARED, build_cohort
from workbench.formatting import duration, size
from workbench.losses.objective import Objective
from workbench.preflight.cost import RunForecast, measure_runs
from workbench.preflight.precheck import check_objectives
from workbench.preflight.trial import LEAST_STEPS
from workbench.process import MIB, MUCH_OF_MEMORY


def check_study(study: Study, cells: Sequence[Cell]) -> None:
    """Check objectives, budgets and losses before loading a model.

    Args:
        cells: all cells of a grid or list, or examples of a search.

    Raises:
        ValueError: an objective or budget that is never measured, or an invalid loss, with the cell's name.
    """
    check_objectives(study, cells)
    for cell in _of_different_losses(cells):
        # Any width will do: it only scales weights. None refuses losses that need a teacher.
        width = 1 if cell.config.teacher.model else None
        try:
            Objective(cell.config.loss, cell.config.train.batch_size, width)
        except ValueError as error:
            raise ValueError(f"cell '{cell.name}': {error}") from None


def _of_different_losses(cells: Iterable[Cell]) -> list[Cell]:
    """One cell per set of losses, so that a user's loss file is loaded only once."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(repr((cell.config.loss, bool(cell.config.teacher.model))), cell)
    return list(found.values())


@dataclass(frozen=True)
class Group:
    """Cells that train on the same batches at one seed, in one process."""

    seed: int
    cells: tuple[Cell, ...]

    @property
    def num_steps(self) -> int:
        return self.cells[0].config.train.num_steps


def groups(cells: Sequence[Cell], seeds: Sequence[int], at_once: int = 0) -> Iterator[Group]:
    """Groups that cover every cell at every seed, seed by seed, each as large as possible.

    Cells of one seed see the same batches in any grouping, since batches depend on the data seed only; differences
    are always paired.

    Args:
        at_once: maximum number of cells per group; 0 for no limit.
    """
    for seed in seeds:
        for mates in _mates(cells):
            size = at_once or len(mates)
            for start in range(0, len(mates), size):
                yield Group(seed, tuple(mates[start : start + size]))


def _mates(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells partitioned by cohort settings, in order."""
    found: list[list[Cell]] = []
    for cell in cells:
        mates = next((group for group in found if may_train_together(group[0], cell)), None)
        if mates is None:
            found.append([cell])
        else:
            mates.append(cell)
    return found


def may_train_together(one: Cell, other: Cell) -> bool:
    """Whether two cells can train in one cohort.

    Students of different architectures may differ in image size, so they train separately, which only costs time.
    """
    return all(getattr(one.config, part) == getattr(other.config, part) for part in (*SHARED, "student"))


MOST_CELLS = 8

Costs = Mapping[str, RunForecast]  # the runs of the measured cells, by cell


def measure_costs(groups: Iterable[Group], runs_dir: Path, notify: Callable[[str], None]) -> dict[str, RunForecast]:
    """The forecast run of each of the first cells, by name.

    Raises:
        ValueError: settings that training would refuse.
    """
    costs: dict[str, RunForecast] = {}
    for group in groups:
        cells = [cell for cell in group.cells if cell.name not in costs][: MOST_CELLS - len(costs)]
        if cells:
            notify(f"measuring {LEAST_STEPS} steps of {', '.join(cell.name for cell in cells)}")
            cohort = build_cohort({cell.name: cell.at(group.seed) for cell in cells}, runs_dir=runs_dir)
            costs |= measure_runs(cohort, notify)
    return costs


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


def most_at_once(costs: Costs, room_mb: float) -> int:
    """How many cells fit in memory together, at least one."""
    peak_mb, state_mb = _largest_mb(costs)
    return max(1, 1 + math.floor((MUCH_OF_MEMORY * room_mb - peak_mb) / state_mb))


def make_forecast(
    groups: Sequence[Group],
    costs: Costs,
    room_mb: float,
    *,
    later: Sequence[Group] = (),
    num_done: int = 0,
    workers: int = 1,
    workers_per_device: int = 1,
) -> SweepForecast:
    """The forecast for the remaining groups; cells that were not measured get the mean cost.

    Processes share the groups; the total is at least that of the longest group.

    Args:
        later: groups that can only start after the others.
        workers_per_device: processes that share the memory, ``room_mb``.
    """
    group_s = [_group_s(group, costs) for group in groups]
    later_s = [_group_s(group, costs) for group in later]
    every = (*groups, *later)
    at_once = max((len(group.cells) for group in every), default=0)
    peak_mb, state_mb = _largest_mb(costs)
    return SweepForecast(
        num_runs=sum(len(group.cells) for group in every),
        num_done=num_done,
        at_once=at_once,
        total_s=sum(max(sum(part_s) / workers, *part_s, 0.0) for part_s in (group_s, later_s)),
        # One member's peak covers data, teacher and activations; each further member adds its persistent state.
        peak_mb=workers_per_device * (peak_mb + (at_once - 1) * state_mb),
        room_mb=room_mb,
        run_s={cell.name: _run_s(cell.name, group, costs) for group in groups for cell in group.cells},
        later_s=sum(later_s),
    )


def _group_s(group: Group, costs: Costs) -> float:
    return sum(_run_s(cell.name, group, costs) for cell in group.cells)


def _run_s(name: str, group: Group, costs: Costs) -> float:
    """A cell's own seconds plus its part of the cohort's shared ones; those of an unmeasured cell are typical ones.

    A cost that was measured in a run of another length is scaled.
    """
    costs = {cell: cost.at(group.num_steps) for cell, cost in costs.items()}
    own_s = costs[name].own_s if name in costs else fmean(cost.own_s for cost in costs.values())
    most_shared_s = max(cost.shared_s for cost in costs.values())
    shared_s = max(costs[cell.name].shared_s if cell.name in costs else most_shared_s for cell in group.cells)
    return own_s + shared_s / len(group.cells)


def _largest_mb(costs: Costs) -> tuple[float, float]:
    """The largest peak of one run, and the largest state that one holds between steps."""
    return max(cost.peak_mb for cost in costs.values()), max(cost.state_mb for cost in costs.values())


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
