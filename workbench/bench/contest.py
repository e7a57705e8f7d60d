"""Contenders timed in turns, in one run: on a busy machine only their ratios mean something."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from workbench.bench.memory import peak_mb

MIN_REPEATS, MIN_S = 5, 0.3  # a contender goes on until it has had both, or either of the next
ENOUGH_REPEATS, ENOUGH_S = 100, 3.0


@dataclass(frozen=True)
class Measured:
    """What one contender needs: seconds, the median of its turns, and memory in MiB (None where it is not told)."""

    time_s: float
    peak_mb: float | None


def measure(contenders: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, Measured]:
    """Time every contender and its peak memory, by name.

    The first turn of each warms it up, untimed, and is where memory is measured. After it they take turns, so that
    whatever else the machine does falls on all of them.
    """
    gc.collect()  # garbage of what ran before must not be freed within a turn
    peaks_mb = {name: peak_mb(work, device) for name, work in contenders.items()}
    times_s: dict[str, list[float]] = {name: [] for name in contenders}
    while waiting := [name for name, times in times_s.items() if not _is_enough(times)]:
        for name in waiting:
            times_s[name].append(_time_s(contenders[name], device))
    return {name: Measured(statistics.median(times_s[name]), peaks_mb[name]) for name in contenders}


def _is_enough(times_s: list[float]) -> bool:
    num_repeats, total_s = len(times_s), sum(times_s)
    has_least = num_repeats >= MIN_REPEATS and total_s >= MIN_S
    return has_least or num_repeats >= ENOUGH_REPEATS or total_s >= ENOUGH_S


def _time_s(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
