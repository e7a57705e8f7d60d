"""How much of the machine this process may use: a container often gives less than the kernel shows."""

import math
import os
import shutil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # Linux: as a container sees its own limits, of version 2 or 1
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
MEMINFO = Path("/proc/meminfo")
MIB = 2**20


def usable_cores() -> int:
    """Cores that the process may run on at once."""
    # macOS has no affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() else cores


def memory_mb() -> tuple[float, float]:
    """Memory in MiB that the process may take, and what of it is free now."""
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    for name in MEMORY_LIMITS:
        limit = _read(CGROUP / name)
        if limit.isdigit():
            total_mb = min(total_mb, int(limit) / MIB)
    fields = dict(line.split(":", 1) for line in _read(MEMINFO).splitlines())
    if "MemAvailable" not in fields:
        return total_mb, total_mb
    return total_mb, min(total_mb, int(fields["MemAvailable"].split()[0]) / 2**10)  # "kB", which are KiB


def free_disk_mb(folder: Path) -> float:
    """Free MiB where the folder is, or would be."""
    return shutil.disk_usage(_nearest(folder)).free / MIB


def is_writable(folder: Path) -> bool:
    """Whether something can be written into the folder, or the folder be made."""
    nearest = _nearest(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _nearest(folder: Path) -> Path:
    """The folder, or the first of its parents that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
