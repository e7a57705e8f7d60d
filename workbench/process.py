"""Processes of this machine: the cores, GPUs, memory and disk they may use, identity, locks, and detached ones."""

import fcntl
import functools
import itertools
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import print_error

# A container's limits of cores and memory are often below the machine's.
CGROUP = Path("/sys/fs/cgroup")  # Linux cgroups, version 2 or 1
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
MEMINFO = Path("/proc/meminfo")
MIB = 2**20
GPU_UUID = re.compile(r"UUID: ((?:GPU|MIG)-[\w/-]+)")  # in a line of nvidia-smi -L
NVIDIA_SMI_S = 20.0  # it takes seconds if no process keeps the driver loaded
MUCH_OF_MEMORY = 0.85  # share of the memory that plans may use


def usable_cores() -> int:
    """Cores that the process can use at once."""
    # macOS has no sched_getaffinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")  # microseconds of CPU time per period, or "max"
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() else cores


def visible_gpus() -> list[str]:
    """The GPUs that the process may use, as CUDA_VISIBLE_DEVICES names them; empty if there are none or it is unknown.

    The variable itself has priority over what nvidia-smi lists. Of a GPU split by MIG, its instances are listed.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:  # CUDA ignores what follows the first name that it does not know
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), map(str.strip, chosen.split(","))))
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=NVIDIA_SMI_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    # UUIDs, since CUDA may count in another order than nvidia-smi. A GPU's MIG instances are listed after it.
    names = GPU_UUID.findall(listed)
    return [name for name, following in itertools.pairwise([*names, ""]) if "MIG-" in name or "MIG-" not in following]


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
    return next(parent for parent in (path, *path.parents) if os.access(parent, os.F_OK))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


PROC = Path("/proc")
ERROR_PREFIX = "workbench: "  # starts the line in which a command reports its error
LOCK = "lock"  # the file in a folder that holds its lock


def this_host() -> str:
    """This machine's host name, as events and locks record it."""
    return socket.gethostname()


@functools.cache
def boot_id() -> str:
    """An id that changes when the machine restarts; empty on systems without one."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started_at(pid: int) -> str | None:
    """Start time of process ``pid`` on this machine, as opaque text; None if it has ended.

    It distinguishes two processes that had the same pid one after the other.
    """
    if not (PROC / "self/stat").exists():
        return _started_at_by_ps(pid)
    try:
        # The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_ticks = fields[0].decode(), fields[19].decode()
    return None if state in "ZX" else f"{boot_id()}/{start_ticks}"


def _started_at_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # the text must not depend on the caller's locale
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    state, _, start = finished.stdout.strip().partition(" ")
    return None if not start or state.startswith(("Z", "X")) else start.strip()


def start_detached(argv: Sequence[str], log: Path) -> int:
    """Start a process in its own session, detached from this terminal, writing to ``log``; returns its pid.

    Raises:
        ValueError: the program or the log's folder is missing, or the log cannot be written.
    """
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ValueError(f"cannot start {argv[0]} with its output in {log}: {error.strerror}") from None
    # Wait for it in a thread: a dashboard that stays open must reap the process, or it is listed as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


@contextmanager
def folder_lock(folder: Path, doing: str | None) -> Iterator[None]:
    """Hold an exclusive lock on a folder; the kernel releases it when the process ends.

    Args:
        doing: what another holder does, for the message while waiting, such as "prepares the same data"; None for none.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if doing is not None:
                print_error(f"{ERROR_PREFIX}waiting for another process that {doing}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: both processes write, and the last rename wins
            pass
        yield
    finally:
        os.close(descriptor)


def launched_rank() -> int | None:
    """This process's rank among those that torchrun, or a launcher with its variables, started; None if it is alone."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(os.environ.get("RANK", "0")) if size.isdecimal() and int(size) > 1 else None


def check_single_process() -> None:
    """Refuse a launcher such as torchrun where a command does not train one run: every rank would do the same."""
    if launched_rank() is not None:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and this command runs in one process: start it without "
            "torchrun (or unset WORLD_SIZE); for several runs at once: workbench sweep --workers N"
        )


@dataclass(frozen=True)
class BackgroundProcess:
    """A ``workbench`` command in a detached process, and the file with its output, after ``num_old_bytes``."""

    pid: int
    started: str | None
    output: Path
    num_old_bytes: int

    @property
    def is_alive(self) -> bool:
        return self.started is not None and started_at(self.pid) == self.started

    @property
    def last_line(self) -> str:
        """The last line of its output; empty if there is none."""
        try:
            printed = self.output.read_bytes()[self.num_old_bytes :]
        except OSError:
            return ""
        return last_line(printed.decode(errors="replace"))


def start_background(arguments: Sequence[str], output: Path) -> BackgroundProcess:
    """Start ``workbench ARGUMENTS``, detached, appending to ``output``."""
    num_old_bytes = output.stat().st_size if output.exists() else 0
    pid = start_detached([sys.executable, "-m", "workbench", *arguments], output)
    return BackgroundProcess(pid, started_at(pid), output, num_old_bytes)


def last_line(printed: str) -> str:
    """The last line of a command's output; empty if there is none."""
    lines = printed.strip().splitlines()
    return lines[-1] if lines else ""


def why_failed(line: str) -> str:
    """The reason in a failed command's last line, without the program's name."""
    return line.removeprefix(ERROR_PREFIX) or "it printed no message"
