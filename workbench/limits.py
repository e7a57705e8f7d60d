"""Cores, memory and disk that this process may use: a container's limits are often below the machine's."""

import math
import os
import shutil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # Linux cgroups, version 2 or 1
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
MEMINFO = Path("/proc/meminfo")
MIB = 2**20
MUCH_OF_MEMORY = 0.85  # share of the memory that plans may use


def usable_cores() -> int:
    """Cores that the process can use at once."""
    # macOS has no sched_getaffinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")  # microseconds of CPU time per period, or "max"
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() else cores


def memory_mb() -> tuple[float, float]:
    """Memory in MiB that the process may use: in total, and free now."""
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    for name in MEMORY_LIMITS:
        limit = _read(CGROUP / name)
        if limit.isdigit():
            total_mb = min(total_mb, int(limit) / MIB)
    fields = dict(line.split(":", 1) for line in _read(MEMINFO).splitlines())
    if "MemAvailable" not in fields:
        return total_mb, total_mb
    return total_mb, min(total_mb, int(fields["MemAvailable"].split()[0]) / 2**10)  # "kB", which are KiB


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds ``path``; the path need not exist."""
    return shutil.disk_usage(_nearest(path)).free


def is_writable(folder: Path) -> bool:
    """Whether the folder can be written, or created if it is missing."""
    nearest = _nearest(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _nearest(path: Path) -> Path:
    """The path itself, or the first of its parents that exists."""
    path = path.absolute()
    # os.access: Path.exists raises in folders that may not be searched.
    return next(place for place in (path, *path.parents) if os.access(place, os.F_OK))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
