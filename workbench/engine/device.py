"""Devices, memory format, precision, peak memory, and the machine facts that a run records."""

import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from workbench.config.run import RunConfig
from workbench.engine.settings import with_absolute_paths
from workbench.models.clip import Clip

BITS = ("torch", "device", "num_threads")  # machine facts that decide the last bits of the numbers


def placed(model: Clip, device: torch.device) -> Clip:
    """The model on the device, convolutional towers in channels_last, their fastest memory format."""
    # Every model that is trained or resumed is placed here: another memory format changes the last bits of a run.
    if has_batch_norm(model):
        model.towers.visual.to(memory_format=torch.channels_last)
    return model.to(device)


def has_batch_norm(model: Clip) -> bool:
    """Whether a tower normalizes over the batch, so that micro-batches are not exact."""
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def resolve_device(name: str) -> torch.device:
    """The device of ``train.device``; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: ``cuda`` without a GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("train.device is cuda and this machine has no GPU that torch sees: use auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def resolved(config: RunConfig) -> RunConfig:
    """The config as it is recorded, so that the run can be repeated: absolute paths, and no ``precision = auto``."""
    config = with_absolute_paths(config)
    if config.train.precision != "auto":
        return config
    # bfloat16 where the GPU computes it natively, which makes towers several times faster; float32 elsewhere: on CPUs
    # bfloat16 was measured at half the speed.
    is_gpu = resolve_device(config.train.device).type == "cuda"
    precision = "bf16" if is_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far, MiB: of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def now_s(device: torch.device) -> float:
    """A clock in seconds, read after all queued GPU work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Host, versions, device and threads, for ``run.toml``."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "num_threads": torch.get_num_threads(),
    }


def changed_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The :func:`machine_facts` that decide the last bits of a run's numbers and differ, each as text."""
    return [f"{key} was {before[key]} and is {now[key]}" for key in BITS if before.get(key, now[key]) != now[key]]
