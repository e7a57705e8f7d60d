"""What the engine asks of the machine."""

import os
import platform
import resource
import sys
import time
from typing import Any

import torch

from workbench.config.run import RunConfig
from workbench.engine.paths import with_absolute_paths
from workbench.models.clip import Clip

# Where a model's weights lie: on which device, and in which memory format.


def placed(model: Clip, device: torch.device) -> Clip:
    """The model on the device, convolutional towers in channels_last, the format in which they run fastest.

    Every model that is trained or resumed goes through here: two memory formats give other last bits.
    """
    if has_batch_norm(model):
        model.towers.visual.to(memory_format=torch.channels_last)
    return model.to(device)


def has_batch_norm(model: Clip) -> bool:
    """Whether a tower normalizes over the batch, so that micro-batches are not exact."""
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("train.device is cuda and this machine has no GPU that torch sees: use auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def settled(config: RunConfig) -> RunConfig:
    """The run as it is recorded, so that it can be repeated: paths absolute, and ``train.precision = auto`` decided.

    The device alone decides it: bfloat16 where a GPU computes it at full speed, for towers are several times as fast in
    it; float32 elsewhere, and on every CPU, where bfloat16 measured at half the speed.
    """
    config = with_absolute_paths(config)
    if config.train.precision != "auto":
        return config
    is_gpu = resolve_device(config.train.device).type == "cuda"
    precision = "bf16" if is_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far: of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def now_s(device: torch.device) -> float:
    """Seconds since some moment, once a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a run's numbers: recorded in ``run.toml``."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "num_threads": torch.get_num_threads(),
    }
