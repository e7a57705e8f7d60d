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
from workbench.data.spec import is_remote
from workbench.engine.settings import with_absolute_paths
from workbench.errors import reason
from workbench.models.clip import Clip
from workbench.models.precision import autocast
from workbench.process import usable_cores

BITS = ("torch", "device", "num_threads", "tf32")  # machine facts that decide the last bits of the numbers


MAX_WORKERS = 16


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
    if not available or name == "cpu":
        return torch.device("cpu")
    # PyTorch lets cuDNN's convolutions round float32 to TF32 (10 bits), so precision = "fp32" would not be fp32, and
    # teacher outputs of ResNets would not be either. Process-wide and for good: no run asks for TF32.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")


def set_determinism(deterministic: bool, device: torch.device) -> None:
    """Apply ``train.deterministic``, process-wide until the next cohort is built; on a CPU nothing changes."""
    if device.type != "cuda":  # the CPU's operators that training uses are deterministic
        return
    if deterministic:  # cuBLAS reads it when it starts, and PyTorch refuses its products without it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)  # also chooses the deterministic backward of attention
    torch.backends.cudnn.benchmark = False  # it would choose the fastest convolution of the moment, on other bits


def resolved(config: RunConfig) -> RunConfig:
    """The config as it is recorded, so that the run can be repeated: absolute paths, and no "auto" of these."""
    config = with_absolute_paths(config)
    data, train = config.data, config.train
    if data.order == "auto" and is_remote(data.train):
        # Every shard is copied once an epoch. "auto" stays for other data, as earlier versions recorded it.
        data = data.model_copy(update={"order": "windows"})
    is_gpu = resolve_device(train.device).type == "cuda"
    if train.precision == "auto":
        # bfloat16 where the GPU computes it natively, which makes towers several times faster; float32 elsewhere: on
        # CPUs bfloat16 was measured at half the speed.
        is_bf16 = is_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        train = train.model_copy(update={"precision": "bf16" if is_bf16 else "fp32"})
    if data.num_workers == "auto":
        data = data.model_copy(update={"num_workers": _num_workers() if is_gpu else 0})
    return config.model_copy(update={"data": data, "train": train})


def check_half(model: Clip, device: torch.device, name: str) -> None:
    """Check that a model's towers run in float16 on its device, forward and backward, on two blank images.

    Raises:
        ValueError: an operator has no float16 there, or an output is not finite: float16 ends at 65,504.
    """
    refused = f"train.precision=fp16 does not fit {name} on {device.type}"
    remedy = "set train.precision=bf16 on a GPU from Ampere on, or fp32"
    image_BCHW = torch.zeros(2, 3, model.image_size, model.image_size, dtype=torch.uint8, device=device)
    text_BL = model.tokenizer(["", "a"]).to(device)
    was_training = model.training
    model.eval()  # no statistic of a batch norm changes
    try:
        with autocast(device, "fp16"):
            outputs = torch.cat([model.encode_image(image_BCHW), model.encode_text(text_BL)])
        if outputs.requires_grad:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            torch.autograd.grad(outputs.sum(), trained, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"{refused} ({reason(error)}): {remedy}") from None
    finally:
        model.train(was_training)
    if not outputs.isfinite().all():
        raise ValueError(f"{refused}: its embeddings overflow; {remedy}")


def _num_workers() -> int:
    """Processes that make batches for a GPU: this rank's share of the cores, less one for the training thread."""
    cores = int(os.environ.get("WORKBENCH_CORES", usable_cores()))  # a sweep divides them among its workers
    return min(MAX_WORKERS, max(0, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory, MiB: of the GPU's allocator since :func:`reset_peak_memory`, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak of the GPU's allocator, so that a run's peak is not that of an earlier run in this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def now_s(device: torch.device) -> float:
    """A clock in seconds, read after all queued GPU work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Host, versions, device and threads, for ``run.toml``."""
    facts = {"tf32": torch.backends.cudnn.allow_tf32} if device.type == "cuda" else {}
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "num_threads": torch.get_num_threads(),
        **facts,
    }


def changed_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The :func:`machine_facts` that decide the last bits of a run's numbers and differ, each as text."""
    known = [key for key in BITS if key in before and key in now]  # a CPU records fewer, and so did older versions
    return [f"{key} was {before[key]} and is {now[key]}" for key in known if before[key] != now[key]]
