"""The memory that a piece of work needs at its peak, beyond what was held before it."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

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
