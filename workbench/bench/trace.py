"""A profiler's trace of a few steady steps, and the operators that weigh most in it."""

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
    """What one operator took itself, without those that it calls.

    Args:
        calls: in one step.
        time_s: seconds in one step, of the device where that is a GPU.
        share: of all the time that was traced.
    """

    name: str
    calls: float
    time_s: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_trace_path(path: Path) -> Path:
    """The path, if a trace can be written there; asked before anything is measured.

    Raises:
        ValueError: its folder is missing, or it would not be read as a trace.
    """
    if path.suffix != ".json":
        raise ValueError(f"--trace writes a JSON file, which its readers know by its name: {path.name or path}.json")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--trace {path}: name a file in a folder that is there")
    return path


def trace(step: Callable[[], object], path: Path, device: torch.device) -> list[Operator]:
    """Take a few steps, write their trace (to look at in ui.perfetto.dev), and tell the heaviest operators.

    Time in no operator, such as that of Python, Pillow and NumPy, is the last entry, called "outside operators"; on a
    GPU it is left out.
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
