"""Timing contenders in turns, their peak memory, and the rows of a benchmark's table."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.engine import device as machine
from workbench.errors import unknown

PROCESS = Path("/proc/self")  # Linux only
RESET_PEAK = "5"  # written to clear_refs, it resets VmHWM (peak resident memory) to the current value
MIN_REPEATS, MIN_S = 5, 0.3  # a contender repeats until it has reached both of these ...
ENOUGH_REPEATS, ENOUGH_S = 100, 3.0  # ... or one of these

Clock = Literal["cpu", "wall"]
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One row of a benchmark: table line and JSON object. None means not measured.

    Args:
        size: number of pairs in a batch.
        time_s: seconds of the benchmark's ``clock``.
        peak_mb: peak memory, MiB above the memory held before.
        ratio: time of the naive implementation divided by this one's, in the same run.
        floor_ratio: this one's time divided by the lower bound's, in the same run.
        share: fraction of the total of the parts.
    """

    case: str
    size: int
    time_s: float
    peak_mb: float | None = None
    ratio: float | None = None
    floor_ratio: float | None = None
    share: float | None = None
    pairs_per_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Bench:
    """The measurements of a command, and how to read its table.

    Args:
        entries: by label, a function that measures some rows.
        meaning: explains the columns of ratios, in one line.
    """

    entries: Mapping[str, Callable[[], list[Row]]]
    meaning: str
    clock: Clock


@dataclass(frozen=True)
class Timing:
    """Median time of one contender in seconds of :func:`clock`, and peak memory in MiB (None if unknown)."""

    time_s: float
    peak_mb: float | None


def bench_config(recipe: str, batch_size: int, num_batches: int, device: torch.device, **sections: Any) -> RunConfig:
    """A recipe's run on a few batches, without evaluation; ``sections`` are TOML tables of more settings."""
    tables: dict[str, dict[str, Any]] = {
        "data": {"num_pairs": num_batches * batch_size, "validation": '""', "test": '""'},
        "teacher": {"chunk_size": batch_size},
        "train": {"num_steps": num_batches, "batch_size": batch_size, "device": device.type},
    }
    for section, settings in sections.items():
        tables[section] = tables.get(section, {}) | settings
    return load_recipe(
        recipe, [f"{section}.{key}={value}" for section, table in tables.items() for key, value in table.items()]
    )


def measure(contenders: Mapping[str, Work], device: torch.device, least: int = 1) -> dict[str, Timing]:
    """Time and peak memory of every contender, by name.

    The first call of each is an untimed warm-up that measures memory. After it contenders take turns, so that other
    load on the machine affects all of them equally; only ratios are meaningful on a busy machine.

    Args:
        least: minimum number of timed calls of each, for small differences.
    """
    gc.collect()  # earlier garbage must not be collected during a timed call
    peaks_mb = {name: peak_mb(work, device) for name, work in contenders.items()}
    times_s: dict[str, list[float]] = {name: [] for name in contenders}
    while waiting := [name for name, times in times_s.items() if not _is_enough(times, least)]:
        for name in waiting:
            start_s = now_s(device)
            contenders[name]()
            times_s[name].append(now_s(device) - start_s)
    return {name: Timing(statistics.median(times_s[name]), peaks_mb[name]) for name in contenders}


def _is_enough(times_s: list[float], least: int) -> bool:
    num_repeats, total_s = len(times_s), sum(times_s)
    if num_repeats >= ENOUGH_REPEATS:
        return True
    is_short = num_repeats >= MIN_REPEATS and total_s >= MIN_S
    return num_repeats >= least and (is_short or total_s >= ENOUGH_S)


def compared(measured: Mapping[str, Timing], case: str, size: int, *, against: str, floor: str) -> list[Row]:
    """One row per contender, "CASE, CONTENDER", with ratios to the contenders ``against`` and ``floor``."""
    slow_s, floor_s = measured[against].time_s, measured[floor].time_s
    return [
        Row(f"{case}, {name}", size, one.time_s, one.peak_mb, slow_s / one.time_s, one.time_s / floor_s)
        for name, one in measured.items()
    ]


def clock(device: torch.device) -> Clock:
    """The clock in use: CPU time of the process for one thread on a CPU, else wall time.

    They agree on an idle machine; on a shared one, other load only affects wall time.
    """
    return "cpu" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def now_s(device: torch.device) -> float:
    """Current time in seconds of that clock, after synchronizing a GPU."""
    return time.process_time() if clock(device) == "cpu" else machine.now_s(device)


def peak_mb(work: Work, device: torch.device) -> float | None:
    """Run ``work`` once; peak memory in MiB above that held before, of the GPU's allocator or of the process.

    None on a CPU on systems other than Linux.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not (PROCESS / "clear_refs").exists():
        work()
        return None
    # Freed memory goes back to the system first, so that reusing it is counted.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc only
        trim(0)
    (PROCESS / "clear_refs").write_text(RESET_PEAK)
    before_mb = _status_mb("VmRSS")
    work()
    return max(0.0, _status_mb("VmHWM") - before_mb)


def _status_mb(field: str) -> float:
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 2**10  # the kernel's "kB" are KiB
    raise AssertionError(f"/proc/self/status has no {field}")


Case = TypeVar("Case")


def choose_cases(names: Sequence[str], cases: Mapping[str, Case]) -> list[Case]:
    """The cases of these names; all if no name is given.

    Raises:
        ValueError: an unknown case, with the closest known name.
    """
    for name in names:
        if name not in cases:
            raise unknown("case", name, cases)
    return [cases[name] for name in names or cases]
