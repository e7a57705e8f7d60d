"""Facts and findings about this machine: device, memory, threads, load and disks."""

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from workbench.engine.start_checks import Finding
from workbench.process import MIB, free_bytes, is_writable, memory_mb, this_host, usable_cores
from workbench.resources import cache_dir

LEAST_DISK_MB = 2 * 2**10
LEAST_MEMORY_MB = 2 * 2**10
BUSY = 1.5  # load per core


@dataclass(frozen=True)
class Gpu:
    """The GPU that training would use."""

    name: str
    memory_mb: float
    free_mb: float


@dataclass(frozen=True)
class Storage:
    """A folder to which runs or caches are written."""

    folder: str
    free_mb: float
    is_writable: bool


@dataclass(frozen=True)
class Machine:
    """Facts that decide whether and how fast a run trains here.

    Attributes:
        driver_gpus: the GPUs of NVIDIA's driver, whether torch sees them or not.
        torch_cuda: the CUDA version that torch is built for; None for a build without CUDA.
        cores: usable by this process, of ``all_cores``.
        load: the machine's load average over one minute.
        precisions: values of train.precision that this device computes natively.
        storage: the runs folder and the cache, by name.
    """

    host: str
    system: str
    gpu: Gpu | None
    driver_gpus: tuple[str, ...]
    torch_cuda: str | None
    cores: int
    all_cores: int
    load: float
    threads: int
    memory_mb: float
    free_memory_mb: float
    precisions: tuple[str, ...]
    versions: dict[str, str]
    storage: dict[str, Storage]

    @property
    def device(self) -> str:
        """The device of train.device = "auto"."""
        return "cuda" if self.gpu else "cpu"

    def to_json(self) -> dict[str, Any]:
        """The ``machine`` of ``--json``."""
        return {"device": self.device, **asdict(self)}


def inspect_machine(runs_dir: Path) -> Machine:
    """This machine as seen by this process; nothing is written."""
    total_mb, free_mb = memory_mb()
    gpu = _gpu()
    folders = {"runs": runs_dir, "cache": cache_dir()}
    return Machine(
        host=this_host(),
        system=f"{platform.system()} {platform.machine()}",
        gpu=gpu,
        driver_gpus=_driver_gpus(),
        torch_cuda=torch.version.cuda,
        cores=usable_cores(),
        all_cores=os.cpu_count() or 1,
        load=os.getloadavg()[0],
        threads=torch.get_num_threads(),
        memory_mb=total_mb,
        free_memory_mb=free_mb,
        precisions=native_precisions() if gpu else ("fp32",),
        versions={
            "workbench": version("clip-distillation-workbench"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": version("open_clip_torch"),
        },
        storage={
            name: Storage(str(folder.absolute()), free_bytes(folder) / MIB, is_writable(folder))
            for name, folder in folders.items()
        },
    )


def native_precisions() -> tuple[str, ...]:
    """Values of ``train.precision`` that this GPU computes natively: bf16 from Ampere on, fp16 from Volta on."""
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ("fp32", "fp16", "bf16")
    return ("fp32", "fp16") if torch.cuda.get_device_capability() >= (7, 0) else ("fp32",)


def machine_findings(machine: Machine) -> list[Finding]:
    """Findings about device, memory, threads, load and disks."""
    return [_device(machine), _memory(machine), _threads(machine), _load(machine), *_storage(machine)]


def _device(machine: Machine) -> Finding:
    if machine.gpu:
        return Finding("device", "ok", f"{machine.gpu.name}, {machine.gpu.memory_mb / 2**10:.0f} GB")
    if not machine.driver_gpus:
        return Finding("device", "ok", f"CPU ({machine.system}); there is no NVIDIA GPU")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        message = "CUDA_VISIBLE_DEVICES hides this machine's GPU from torch"
        return Finding("device", "warning", message, "unset CUDA_VISIBLE_DEVICES")
    why = "torch is built without CUDA"
    if machine.torch_cuda:
        why = f"torch is built for CUDA {machine.torch_cuda}, which the driver may be too old for"
    message = f"nvidia-smi lists {machine.driver_gpus[0]}, but torch does not see it: {why}"
    remedy = "install the torch that https://pytorch.org/get-started/locally names for this driver"
    return Finding("device", "problem", message, remedy)


def _memory(machine: Machine) -> Finding:
    message = f"{machine.free_memory_mb / 2**10:.1f} of {machine.memory_mb / 2**10:.1f} GB free"
    return Finding.warn_if(machine.free_memory_mb < LEAST_MEMORY_MB, "RAM", message, "stop other programs")


def _threads(machine: Machine) -> Finding:
    too_many, message = machine.threads > machine.cores, f"{machine.threads} for {machine.cores} cores"
    slowed = f"{message}: they slow each other down" if too_many else message
    return Finding.warn_if(too_many, "threads", slowed, f"export OMP_NUM_THREADS={machine.cores}")


def _load(machine: Machine) -> Finding:
    message = f"load average {machine.load:.1f} on {machine.all_cores} cores"
    remedy = "measured times are too long: stop other programs, or try again later"
    return Finding.warn_if(machine.load > BUSY * machine.all_cores, "load", message, remedy)


def _storage(machine: Machine) -> Iterator[Finding]:
    options = {"runs": "--runs DIR", "cache": "WORKBENCH_CACHE=DIR"}
    for name, storage in machine.storage.items():
        check, elsewhere = f"{name} folder", f"name another with {options[name]}"
        if not storage.is_writable:
            yield Finding(check, "problem", f"{storage.folder} cannot be written to", elsewhere)
        elif storage.free_mb < LEAST_DISK_MB:
            message = f"only {storage.free_mb / 2**10:.1f} GB are free at {storage.folder}"
            yield Finding(check, "problem", message, f"free some, or {elsewhere}")
        else:
            yield Finding(check, "ok", f"{storage.free_mb / 2**10:,.0f} GB free at {storage.folder}")


def _gpu() -> Gpu | None:
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return Gpu(torch.cuda.get_device_name(), total / MIB, free / MIB)


def _driver_gpus() -> tuple[str, ...]:
    """The GPUs that ``nvidia-smi`` lists; empty if it is missing or fails."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.split(" (UUID")[0] for line in listed.splitlines() if line.startswith("GPU "))
