"""What a study will take: runs, minutes and memory, said before it starts and corrected while it runs."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.engine.device import peak_memory_mb, resolve_device
from workbench.limits import MIB, MUCH_OF_MEMORY, memory_mb
from workbench.sweeps.plan import Group
from workbench.sweeps.rehearsal import Cost
from workbench.views.units import duration, size


@dataclass(frozen=True)
class Forecast:
    """The rest of a study, on this machine.

    Attributes:
        num_runs: that are yet to be trained; ``num_done`` have been.
        at_once: cells that train together.
        total_s: seconds until all is done, by as many processes as were asked for.
        run_s: seconds of each cell's run as one of such a cohort.
        later_s: seconds of runs that come after those, such as the confirmation of a search.
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
        """The ``forecast`` of ``--json``."""
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
    """How many cells fit into memory together, one at the least."""
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
) -> Forecast:
    """The groups that are yet to train, at the cost of the cells that were measured; others cost their mean.

    Processes share the groups; none of them is done before the longest group is.

    Args:
        later: groups that can only be trained after those.
    """
    group_s = [_group_s(group, costs) for group in groups]
    later_s = [_group_s(group, costs) for group in later]
    every = (*groups, *later)
    at_once = max((len(group.cells) for group in every), default=0)
    peak_mb = max(cost.peak_mb for cost in costs.values()) + (at_once - 1) * max(c.own_mb for c in costs.values())
    return Forecast(
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
    """A cell's own seconds, and its part of what is paid once for all."""
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
    """What a cohort could take where it trains: what is free there, and what this process has by now."""
    place = resolve_device(device)
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0] / MIB + peak_memory_mb(place)
    total_mb, free_mb = memory_mb()
    return min(total_mb, free_mb + peak_memory_mb(place))


class Clock:
    """How long the rest will take: the forecast, corrected by how long what was forecast has taken so far.

    Args:
        run_s: forecast seconds of each cell's run; where none are known, all count the same, and nothing is said before
            one has been trained.
        later_s: those of all that comes after; where none are known, the number of its runs.
        workers: processes that share what is left.
    """

    def __init__(self, run_s: Mapping[str, float] = {}, later_s: float = 0.0, workers: int = 1) -> None:
        self._run_s = run_s
        self._later_s = later_s
        self._mean_s = sum(run_s.values()) / len(run_s) if run_s else 1.0
        self._workers = workers
        self._forecast_s = self._taken_s = 0.0
        self._since = time.monotonic()

    def begin(self) -> None:
        """A group starts."""
        self._since = time.monotonic()

    def end(self, cells: Iterable[str]) -> None:
        """The group of these cells has ended."""
        self._taken_s += time.monotonic() - self._since
        self._forecast_s += sum(self._of(name) for name in cells)

    def left(self, cells: Iterable[str], more: float = 0.0) -> str:
        """How long these runs will take, one name for each, and so many more; for people, empty if not known."""
        if not self._forecast_s and not self._run_s:
            return ""
        pace = self._taken_s / self._forecast_s if self._forecast_s else 1.0
        left_s = pace * (sum(self._of(name) for name in cells) + more * self._mean_s + self._later_s) / self._workers
        return f"; about {duration(left_s)} left"

    def _of(self, name: str) -> float:
        return self._run_s.get(name, self._mean_s)
