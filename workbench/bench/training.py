"""A training step with cached teacher embeddings, and one of a cohort of students, against what they replace."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch

from workbench.bench.contest import Bench, Row, Work, bench_config, clock, compared, measure
from workbench.bench.step import whole_step
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.teacher_cache.manifest import CACHES
from workbench.engine.teacher_cache.store import TeacherCache
from workbench.errors import unknown
from workbench.models.folder import save_folder
from workbench.models.spec import load_model

CACHE_MEANING = "Times faster than a live teacher; times the lower bound, a teacher at no cost; peak: extra memory."
CACHE_BATCHES = 2  # the steps cycle through these
LIVE, CACHED, NO_TEACHER = "live teacher", "cached teacher", "no teacher"


@dataclass(frozen=True)
class Size:
    """Teacher, student and default batch size."""

    name: str
    teacher: str
    student: str
    batch_size: int


SIZES = {
    "samples": Size("samples", "sample:scenes", "mini-w64", 128),
    "real": Size("real", "open_clip:ViT-B-16", "ViT-T-16", 8),
}


def choose_size(name: str) -> Size:
    """The size of this name.

    Raises:
        ValueError: an unknown size, with the closest known name.
    """
    if name not in SIZES:
        raise unknown("size", name, SIZES)
    return SIZES[name]


def cache_bench(sizes: list[tuple[Size, int]], device: torch.device) -> Bench:
    """The benchmark of these model sizes, each with its batch size."""
    entries = {f"cache, {size.name}, B = {pairs}": partial(cache_rows, size, pairs, device) for size, pairs in sizes}
    return Bench(entries, CACHE_MEANING, clock(device))


def cache_rows(size: Size, batch_size: int, device: torch.device) -> list[Row]:
    """The three steps in turns: loading, teacher forward, student update, without overlap.

    The floor is a step with the same losses and the teacher's embeddings in memory.
    """
    with cache_steps(size, batch_size, device) as contenders:
        measured = measure(contenders, device)
    return compared(measured, size.name, batch_size, against=LIVE, floor=NO_TEACHER)


@contextmanager
def cache_steps(size: Size, batch_size: int, device: torch.device) -> Iterator[dict[str, Work]]:
    """Calls that take one step, by name."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = size.teacher
        if teacher.startswith("open_clip:"):  # random weights cost the same as trained ones
            save_folder(load_model(teacher, seed=0), Path(folder) / "teacher")
            teacher = f"{folder}/teacher"

        def config(cache: str) -> RunConfig:
            return bench_config(
                "clip-kd",
                batch_size,
                CACHE_BATCHES,
                device,
                data={"views": 1 if cache == "on" else 0},  # 0 prevents reuse of a live teacher's outputs
                student={"model": size.student},
                teacher={"model": teacher, "cache": cache},
            )

        cached = build_cohort({"cached": config("on")})
        kept = cached.cached
        assert isinstance(kept, TeacherCache)
        try:
            live = build_cohort({"live": config("off")})
            free = build_cohort({"free": config("on")}, like=cached)
            # Fixed outputs cost nothing per step, which makes this the lower bound for any teacher cache.
            outputs = free.teacher_forward(free.stream.batch(0).to(device), 0)
            yield {
                LIVE: whole_step(live, _cycle(CACHE_BATCHES)),
                CACHED: whole_step(cached, _cycle(CACHE_BATCHES)),
                NO_TEACHER: whole_step(free, _cycle(CACHE_BATCHES), outputs),
            }
        finally:
            CACHES.remove(kept.folder)


def _cycle(num_batches: int) -> Iterator[int]:
    return (step % num_batches for step in count())


COHORT_MEANING = (
    "Times faster than N runs; times the lower bound that sharing allows (stacked: a step of one); peak: extra memory."
)
COHORT_BATCHES = 8  # the steps cycle through these
LEAST_TURNS = 5
DECODE, TEACHER, STUDENT = PARTS = "decode (D)", "teacher (T)", "student (S)"
ONE_RUN, APART, TOGETHER, STACKED = "one run", "one after another", "one cohort", "one cohort, stacked"


def cohort_bench(device: torch.device, num_members: int = 8, batch_size: int = 128) -> Bench:
    """The benchmark of a cohort of this many members, at this batch size."""
    rows = partial(cohort_rows, SIZES["samples"], num_members, batch_size, device)
    return Bench({f"cohort, {num_members} members, B = {batch_size}": rows}, COHORT_MEANING, clock(device))


def cohort_rows(
    size: Size, num_members: int, batch_size: int, device: torch.device, *, stacked: bool | None = None
) -> list[Row]:
    """A step of a cohort of N, N steps of single runs, and the parts of one step; loading does not overlap.

    ``ratio`` is the speed-up of a cohort over N runs. The floor of an unstacked cohort is the speed-up from sharing
    decoding and teacher, N (D + T + S) / (D + T + N S); that of a stacked one is the step of one run.

    Args:
        stacked: whether to measure a stacked cohort too; None: on a GPU only.
    """
    also_stacked = device.type == "cuda" if stacked is None else stacked
    measured = measure(cohort_steps(size, num_members, batch_size, device, also_stacked), device, LEAST_TURNS)
    decode_s, teacher_s, student_s = parts_s = [measured[part].time_s for part in PARTS]
    apart_s, one_s = measured[APART].time_s, measured[ONE_RUN].time_s
    # Amdahl's law: decoding and teacher are shared, student work is not.
    allowed = num_members * sum(parts_s) / (decode_s + teacher_s + num_members * student_s)

    def row(contender: str, case: str, ratio: float | None = None, floor_ratio: float | None = None) -> Row:
        found = measured[contender]
        return Row(case, batch_size, found.time_s, found.peak_mb, ratio, floor_ratio)

    ratio = apart_s / measured[TOGETHER].time_s
    rows = [
        *(Row(part, batch_size, measured[part].time_s, share=measured[part].time_s / sum(parts_s)) for part in PARTS),
        row(ONE_RUN, ONE_RUN),
        row(APART, f"{num_members} runs, {APART}", 1.0),
        row(TOGETHER, f"{num_members} members, {TOGETHER}", ratio, allowed / ratio),
    ]
    if also_stacked:
        taken_s = measured[STACKED].time_s
        rows.append(row(STACKED, f"{num_members} members, {STACKED}", apart_s / taken_s, taken_s / one_s))
    return rows


def cohort_steps(
    size: Size, num_members: int, batch_size: int, device: torch.device, also_stacked: bool
) -> dict[str, Work]:
    """The contenders by name: the parts of a step, a step of one run, N of them, and one step of a cohort of N."""

    def cohort(num: int, like: Cohort | None = None, stacked: str = "off") -> Cohort:
        """Members with different initial weights; ``data.views=0`` prevents reuse of teacher outputs."""
        models = {"student": {"model": size.student}, "teacher": {"model": size.teacher}}
        config = bench_config(
            "clip-kd", batch_size, COHORT_BATCHES, device, data={"views": 0}, train={"stacked": stacked}, **models
        )
        members = {f"member {seed}": config.model_copy(update={"seed": seed}) for seed in range(num)}
        return build_cohort(members, like=like)

    alone = cohort(1)
    batch = alone.stream.batch(0).to(device)
    outputs = alone.teacher_forward(batch, 0)
    one_step, numbers = whole_step(alone, _cycle(COHORT_BATCHES)), count()
    contenders: dict[str, Work] = {
        DECODE: lambda: alone.stream.batch(next(numbers)).to(device),
        TEACHER: lambda: alone.teacher_forward(batch, 0),
        STUDENT: lambda: alone.train_step(batch, outputs, 0),
        ONE_RUN: one_step,
        APART: lambda: [one_step() for _ in range(num_members)],
        TOGETHER: whole_step(cohort(num_members, alone), _cycle(COHORT_BATCHES)),
    }
    if also_stacked:
        contenders[STACKED] = whole_step(cohort(num_members, alone, "on"), _cycle(COHORT_BATCHES))
    return contenders
