"""Contenders timed in turns, in one run: on a busy machine only their ratios mean something."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.bench.memory import peak_mb
from workbench.bench.row import Row
from workbench.engine import device as machine

MIN_REPEATS, MIN_S = 5, 0.3  # a contender goes on until it has had both, or either of the next
ENOUGH_REPEATS, ENOUGH_S = 100, 3.0

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Measured:
    """What one contender needs: seconds (see :func:`clock`), the median of its turns, and MiB (None: not told)."""

    time_s: float
    peak_mb: float | None


def measure(
    contenders: Mapping[str, Callable[[], object]], device: torch.device, least: int = 1
) -> dict[str, Measured]:
    """Time every contender and its peak memory, by name.

    The first turn of each warms it up, untimed, and is where memory is measured. After it they take turns, so that
    whatever else the machine does falls on all of them.

    Args:
        least: turns that each has, however long it takes; more where small differences are looked for.
    """
    gc.collect()  # garbage of what ran before must not be freed within a turn
    peaks_mb = {name: peak_mb(work, device) for name, work in contenders.items()}
    times_s: dict[str, list[float]] = {name: [] for name in contenders}
    while waiting := [name for name, times in times_s.items() if not _is_enough(times, least)]:
        for name in waiting:
            times_s[name].append(_time_s(contenders[name], device))
    return {name: Measured(statistics.median(times_s[name]), peaks_mb[name]) for name in contenders}


def compared(measured: Mapping[str, Measured], case: str, size: int, *, against: str, floor: str) -> list[Row]:
    """A row a contender, "CASE, CONTENDER": how many times faster than one of them, and slower than another."""
    slow_s, floor_s = measured[against].time_s, measured[floor].time_s
    return [
        Row(
            case=f"{case}, {name}",
            size=size,
            time_s=one.time_s,
            peak_mb=one.peak_mb,
            ratio=slow_s / one.time_s,
            floor_ratio=one.time_s / floor_s,
        )
        for name, one in measured.items()
    ]


def _is_enough(times_s: list[float], least: int) -> bool:
    num_repeats, total_s = len(times_s), sum(times_s)
    if num_repeats >= ENOUGH_REPEATS:
        return True
    is_short = num_repeats >= MIN_REPEATS and total_s >= MIN_S
    return num_repeats >= least and (is_short or total_s >= ENOUGH_S)


def clock(device: torch.device) -> Clock:
    """What seconds are counted: of the wall, or with one thread on a CPU those that this process had of it.

    The two agree on a machine left alone. On a shared one, others' work stretches only the wall's.
    """
    return "cpu" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def now_s(device: torch.device) -> float:
    """Seconds of that clock since some moment, once a GPU has done what it was given."""
    return time.process_time() if clock(device) == "cpu" else machine.now_s(device)


def _time_s(work: Callable[[], object], device: torch.device) -> float:
    start_s = now_s(device)
    work()
    return now_s(device) - start_s
