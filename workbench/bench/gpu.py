"""What was predicted of one H200 before any GPU was at hand, next to what a GPU does.

The measurements decide what the engine shall choose by itself: it uses neither ``torch.compile`` nor CUDA graphs yet,
and both are measured here on its own step.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from workbench.bench.contest import Work, bench_config, measure
from workbench.bench.losses import CASES, LossMeasurement
from workbench.bench.training import SIZES, STACKED, Size, cohort_rows
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.device import resolve_device
from workbench.engine.step import backward
from workbench.errors import reason
from workbench.losses.tf32 import tf32_products
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.models.towers import restore_open_clips_blocks

MEANING = "Predicted of one H200, by reading and by counting operators; a GPU had run none of it."
LEAST_TURNS = 9
WARM_UP = 3  # calls before a capture, as PyTorch asks for
TINY, LARGE = SIZES["samples"], SIZES["real"]


@dataclass(frozen=True)
class Estimate:
    """A figure that was predicted.

    Args:
        unit: pairs/s, s, MB, or "times" for a ratio.
        low, high: what was predicted; equal for a single figure.
        figure: measures it on a device.
    """

    case: str
    unit: str
    low: float
    high: float
    figure: Callable[[torch.device], float]

    def rows(self, device: torch.device) -> "list[Found]":
        """The figure of this device, as a row. What fails, such as a capture, is a row with the reason."""
        figure, failed = None, ""
        try:
            figure = self.figure(device)
        except (RuntimeError, ValueError, OSError) as error:  # out of memory and compilers' errors are RuntimeErrors
            failed = reason(error)
        return [Found(self.case, self.unit, self.low, self.high, figure, failed)]


@dataclass(frozen=True)
class Found:
    """A predicted figure and the measured one; None with the reason in ``failed``."""

    case: str
    unit: str
    predicted_low: float
    predicted_high: float
    measured: float | None
    failed: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> list[str]:
        """Case, unit, prediction and figure, as the table shows them."""
        low, high = _shown(self.predicted_low), _shown(self.predicted_high)
        figure = f"failed: {self.failed}" if self.measured is None else _shown(self.measured)
        return [self.case, self.unit, low if low == high else f"{low} to {high}", figure]


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


def check_gpu() -> torch.device:
    """The GPU.

    Raises:
        ValueError: there is none.
    """
    if not torch.cuda.is_available():
        raise ValueError("bench gpu needs a GPU, and torch sees none here: run it where `workbench doctor` lists one")
    return resolve_device("cuda")


def estimates() -> list[Estimate]:
    """Everything that was predicted; a capture comes last, since one that fails can spoil what follows."""
    tiny, large = partial(rate, TINY, 128), partial(rate, LARGE, 512)
    return [
        Estimate("mini-w64, 48 px: batches of one thread", "pairs/s", 7_500, 7_500, partial(batch_rate, TINY, 128)),
        Estimate("mini-w64: learn step", "pairs/s", 26_000, 38_000, partial(tiny, precision="fp32")),
        Estimate("mini-w64: learn step, bf16 / fp32, time", "times", 1.0, 1.23, partial(half_ratio, TINY, 128)),
        Estimate("mini-w64: open_clip's blocks / own, time", "times", 1.0, 1.27, partial(blocks_ratio, TINY, 128)),
        Estimate("mini-w64: 8 members stacked / one, time", "times", 1.0, 2.0, partial(stacked_ratio, TINY, 128)),
        Estimate("ViT-T/16, 224 px, bf16: learn step", "pairs/s", 7_000, 9_000, large),
        Estimate("ViT-T/16: learn step, compiled", "pairs/s", 11_000, 15_000, partial(large, how="compile")),
        Estimate("ViT-T/16: step with a live ViT-B/16", "pairs/s", 4_300, 5_000, partial(large, is_live=True)),
        Estimate("six losses, 32,768 x 512, fp32", "s", 1.15, 1.15, partial(losses_s, 32_768)),
        Estimate("six losses, 32,768 x 512, TF32", "s", 0.33, 0.33, partial(losses_s, 32_768, tf32=True)),
        Estimate("six losses, 32,768 x 512: memory", "MB", 3_800, 3_800, partial(losses_mb, 32_768)),
        Estimate("mini-w64: learn step, CUDA graph", "pairs/s", 80_000, 120_000, partial(tiny, how="graph")),
    ]


@contextmanager
def cohort_of(size: Size, batch_size: int, device: torch.device, precision: str) -> Iterator[Cohort]:
    """A run of clip-kd with a live teacher; one that would have to be downloaded has random weights."""
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as folder:
        teacher = size.teacher
        if teacher.startswith("open_clip:"):
            save_folder(load_model(teacher, seed=0), Path(folder) / "teacher")
            teacher = f"{folder}/teacher"
        config = bench_config(
            "clip-kd",
            batch_size,
            1,
            device,
            data={"views": 0},
            student={"model": size.student},
            teacher={"model": teacher},
            train={"precision": precision},
        )
        yield build_cohort({"bench": config})


def rate(
    size: Size,
    batch_size: int,
    device: torch.device,
    *,
    precision: str = "bf16",
    how: str = "eager",
    is_live: bool = False,
) -> float:
    """Pairs per second of a step on a batch in the device's memory.

    Args:
        how: "eager", "compile" the towers, or "graph" for forward, losses and backward as one CUDA graph.
        is_live: with the teacher's forward; otherwise its outputs are there.
    """
    with cohort_of(size, batch_size, device, precision) as cohort:
        return batch_size / _time_s(learn_step(cohort, how, is_live=is_live), device)


def learn_step(cohort: Cohort, how: str = "eager", *, is_live: bool = False) -> Work:
    """A call that takes the step of a single member on the same batch again and again."""
    (member,) = cohort.members
    batch = cohort.stream.batch(0).to(cohort.device)
    outputs = cohort.teacher_forward(batch, 0)
    if how == "compile":
        member.state.student.towers.visual.compile()
        member.state.student.towers.transformer.compile()
    if how == "graph":
        member.prepare_step(0)

        def learn() -> Any:
            masked, precision = member.masked(batch, 0), member.config.train.precision
            return backward(member.state, masked, outputs, member.objective, 0, precision=precision)

        replay, values = captured(learn, lambda: member.state.optimizer.zero_grad(set_to_none=True))

        def step() -> None:
            replay()
            member.update(values, batch, 0)

        return step
    if is_live:
        return lambda: cohort.train_step(batch, cohort.teacher_forward(batch, 0), 0)
    return lambda: cohort.train_step(batch, outputs, 0)


def captured(work: Callable[[], Any], reset: Callable[[], None]) -> tuple[Callable[[], None], Any]:
    """``work`` as a CUDA graph, and what it returned, which every replay overwrites.

    Args:
        reset: called before every call, so that gradients are written, not added to.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            reset()
            work()
    torch.cuda.current_stream().wait_stream(side)
    reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


def batch_rate(size: Size, batch_size: int, device: torch.device) -> float:
    """Pairs per second of one thread that decodes and crops, as without worker processes."""
    with cohort_of(size, batch_size, device, "fp32") as cohort:
        return batch_size / _time_s(lambda: cohort.stream.batch(0), torch.device("cpu"))


def half_ratio(size: Size, batch_size: int, device: torch.device) -> float:
    """Time of a step in bf16 over that in fp32."""
    with cohort_of(size, batch_size, device, "bf16") as half, cohort_of(size, batch_size, device, "fp32") as whole:
        return _ratio(learn_step(half), learn_step(whole), device)


def blocks_ratio(size: Size, batch_size: int, device: torch.device) -> float:
    """Time of a step of a student with open_clip's blocks over that with the workbench's."""
    with cohort_of(size, batch_size, device, "fp32") as own, cohort_of(size, batch_size, device, "fp32") as theirs:
        student = theirs.members[0].state.student
        restore_open_clips_blocks(student.towers, student.config)
        return _ratio(learn_step(theirs), learn_step(own), device)


def stacked_ratio(size: Size, batch_size: int, device: torch.device, num_members: int = 8) -> float:
    """Time of a step of a stacked cohort over that of one run."""
    rows = cohort_rows(size, num_members, batch_size, device, stacked=True)
    (found,) = [row.floor_ratio for row in rows if row.case.endswith(STACKED)]
    assert found is not None
    return found


def losses_s(batch_size: int, device: torch.device, *, tf32: bool = False) -> float:
    """Seconds of CLIP-KD's six losses in chunks, forward and backward, at either ``train.loss_precision``."""
    with tf32_products(tf32):
        return _time_s(_losses(batch_size, device, in_tf32=tf32), device)


def losses_mb(batch_size: int, device: torch.device) -> float:
    """Peak memory of the same, MiB."""
    peak_mb = measure({"losses": _losses(batch_size, device)}, device)["losses"].peak_mb
    assert peak_mb is not None
    return peak_mb


def _losses(batch_size: int, device: torch.device, *, in_tf32: bool = False) -> Work:
    contenders = LossMeasurement(512, device, 0, in_tf32).contenders(CASES["mixture"], batch_size)
    return next(work for name, work in contenders.items() if name.startswith("chunked"))


def _time_s(work: Work, device: torch.device) -> float:
    return measure({"": work}, device, LEAST_TURNS)[""].time_s


def _ratio(one: Work, other: Work, device: torch.device) -> float:
    """Time of one over the other, in turns."""
    measured = measure({"one": one, "other": other}, device, LEAST_TURNS)
    return measured["one"].time_s / measured["other"].time_s
