"""A profiler trace of a few training steps, and its most expensive operators."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from workbench.files import new_file

NUM_STEPS = 5
NUM_WARM_UP_STEPS = 2
NUM_HEAVIEST = 10
OUTSIDE = "outside operators"


@dataclass(frozen=True)
class Operator:
    """Self time of one operator.

    Args:
        calls: calls per step.
        time_s: seconds per step; device time on a GPU.
        share: fraction of the traced time.
    """

    name: str
    calls: float
    time_s: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_trace_path(path: Path) -> Path:
    """The path, after checking that a trace can be written there.

    Raises:
        ValueError: its folder does not exist, or its suffix is not .json.
    """
    if path.suffix != ".json":
        raise ValueError(f"--trace writes JSON: name the file {path.name or path}.json")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--trace {path}: name a file in an existing folder")
    return path


def trace(step: Callable[[], object], path: Path, device: torch.device) -> list[Operator]:
    """Trace a few steps, write the trace (for ui.perfetto.dev), and return the operators with the most self time.

    On a CPU, the last entry is "outside operators": time in Python, Pillow, NumPy etc.
    """
    for _ in range(NUM_WARM_UP_STEPS):
        step()
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as found:
        for _ in range(NUM_STEPS):
            step()
    with new_file(path) as temporary:
        found.export_chrome_trace(str(temporary))
    return _heaviest(found, is_gpu)


def _heaviest(found: profile, is_gpu: bool) -> list[Operator]:
    events = found.key_averages()
    times_us = {
        event.key: event.self_device_time_total if is_gpu else event.self_cpu_time_total
        for event in events
        if not event.is_user_annotation
    }
    annotated_us = 0 if is_gpu else sum(event.self_cpu_time_total for event in events if event.is_user_annotation)
    total_us = sum(times_us.values()) + annotated_us
    calls = {event.key: event.count for event in events} | {OUTSIDE: NUM_STEPS}
    heaviest = sorted(times_us.items(), key=lambda item: -item[1])[:NUM_HEAVIEST]
    if not is_gpu:
        heaviest.append((OUTSIDE, annotated_us))
    return [
        Operator(name, calls[name] / NUM_STEPS, time_us / NUM_STEPS / 1e6, time_us / total_us)
        for name, time_us in heaviest
    ]
