"""Cases by their names."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from workbench.engine import device as machine
from workbench.errors import unknown

# The memory that a piece of work needs at its peak, beyond what was held before it.

PROCESS = Path("/proc/self")  # Linux: what a process may ask about itself
RESET_PEAK = "5"  # written to clear_refs, it lowers VmHWM, the most memory ever held, to what is held now


def peak_mb(work: Callable[[], object], device: torch.device) -> float | None:
    """Run ``work`` once; its peak in MiB of the GPU's allocator, or of the process on a CPU.

    None on a CPU where the system does not tell (anything but Linux).
    """
    if device.type == "cuda":
        return _cuda_peak_mb(work, device)
    if not (PROCESS / "clear_refs").exists():
        work()
        return None
    _return_free_memory()
    (PROCESS / "clear_refs").write_text(RESET_PEAK)
    before_mb = _status_mb("VmRSS")
    work()
    return max(0.0, _status_mb("VmHWM") - before_mb)


def _cuda_peak_mb(work: Callable[[], object], device: torch.device) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _return_free_memory() -> None:
    """Give freed memory back to the system, so that using it again counts."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library has it, musl has not
    if trim is not None:
        trim(0)


def _status_mb(field: str) -> float:
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 2**10  # the kernel says "kB" and means KiB
    raise AssertionError(f"/proc/self/status has no {field}")


# One line of a benchmark's table, and of its JSON.


@dataclass(frozen=True)
class Row:
    """What one case took. None where it was not measured.

    Args:
        case: what was run.
        size: how much of it; for losses, the pairs of a batch.
        time_s: seconds, of the command's ``clock``.
        peak_mb: MiB at its peak, beyond what was held before.
        ratio: how many times longer the straightforward way took, in the same run.
        floor_ratio: how many times longer it took than what no way can avoid, in the same run.
        share: its part of the whole that it belongs to.
        pairs_per_s: pairs a second.
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


# Contenders timed in turns, in one run: on a busy machine only their ratios mean something.

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


Case = TypeVar("Case")


def choose_cases(names: Sequence[str], cases: Mapping[str, Case]) -> list[Case]:
    """The cases of these names; all of them where no name is given.

    Raises:
        ValueError: there is no such case; offers the nearest.
    """
    for name in names:
        if name not in cases:
            raise unknown("case", name, cases)
    return [cases[name] for name in names or cases]
