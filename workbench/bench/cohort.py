"""A cohort of students against sequential runs, and against the speed-up that sharing can give at most."""

from collections.abc import Callable
from itertools import count

import torch

from workbench.bench.cache import Size
from workbench.bench.contest import Row, Timing, measure
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort

NUM_BATCHES = 8  # the steps cycle through these
LEAST_TURNS = 5
DECODE, TEACHER, STUDENT = PARTS = "decode (D)", "teacher (T)", "student (S)"
ONE_RUN, APART, TOGETHER, STACKED = "one run", "one after another", "one cohort", "one cohort, stacked"


def cohort_rows(
    size: Size, num_members: int, batch_size: int, device: torch.device, *, stacked: bool | None = None
) -> list[Row]:
    """A step of a cohort of N, N steps of single runs, and the parts of one step; loading does not overlap.

    ``ratio`` is the speed-up of a cohort over N runs. The floor of an unstacked cohort is the speed-up from sharing
    decoding and teacher, N (D + T + S) / (D + T + N S); that of a stacked one is the step of one run.

    Args:
        stacked: whether to measure a stacked cohort too; None: on a GPU only.
    """
    contenders = _contenders(
        size, num_members, batch_size, device, device.type == "cuda" if stacked is None else stacked
    )
    measured = measure(contenders, device, LEAST_TURNS)
    parts_s = [measured[part].time_s for part in PARTS]
    apart_s, one_s = measured[APART].time_s, measured[ONE_RUN].time_s
    # Amdahl's law: decoding and teacher are shared, student work is not.
    allowed = num_members * sum(parts_s) / (parts_s[0] + parts_s[1] + num_members * parts_s[2])
    ratio = apart_s / measured[TOGETHER].time_s
    rows = [
        *(
            Row(part, batch_size, time_s, share=time_s / sum(parts_s))
            for part, time_s in zip(PARTS, parts_s, strict=True)
        ),
        _row(ONE_RUN, batch_size, measured[ONE_RUN]),
        _row(f"{num_members} runs, {APART}", batch_size, measured[APART], 1.0),
        _row(f"{num_members} members, {TOGETHER}", batch_size, measured[TOGETHER], ratio, allowed / ratio),
    ]
    if one := measured.get(STACKED):
        name = f"{num_members} members, {STACKED}"
        rows.append(_row(name, batch_size, one, apart_s / one.time_s, one.time_s / one_s))
    return rows


def _row(
    case: str, batch_size: int, found: Timing, ratio: float | None = None, floor_ratio: float | None = None
) -> Row:
    return Row(case, batch_size, found.time_s, found.peak_mb, ratio, floor_ratio)


def _contenders(
    size: Size, num_members: int, batch_size: int, device: torch.device, stacked: bool
) -> dict[str, Callable[[], object]]:
    alone = _cohort(size, 1, batch_size, device)
    together = _cohort(size, num_members, batch_size, device, like=alone)
    batch = alone.stream.batch(0).to(device)
    teacher_outputs = alone.teacher_forward(batch, 0)
    (member,) = alone.members
    turns, numbers = _step(alone), count()
    contenders: dict[str, Callable[[], object]] = {
        DECODE: lambda: alone.stream.batch(next(numbers)).to(device),
        TEACHER: lambda: alone.teacher_forward(batch, 0),
        STUDENT: lambda: member.train_step(batch, teacher_outputs, 0),
        ONE_RUN: turns,
        APART: lambda: [turns() for _ in range(num_members)],
        TOGETHER: _step(together),
    }
    if stacked:
        contenders[STACKED] = _step(_cohort(size, num_members, batch_size, device, like=alone, stacked="on"))
    return contenders


def _step(cohort: Cohort) -> Callable[[], None]:
    numbers = count()

    def work() -> None:
        step = next(numbers) % NUM_BATCHES
        batch = cohort.stream.batch(step).to(cohort.device)
        cohort.train_step(batch, cohort.teacher_forward(batch, step), step)

    return work


def _cohort(
    size: Size,
    num_members: int,
    batch_size: int,
    device: torch.device,
    *,
    like: Cohort | None = None,
    stacked: str = "off",
) -> Cohort:
    """Members with different initial weights; ``data.views=0`` prevents reuse of teacher outputs."""
    settings = {
        "data.num_pairs": NUM_BATCHES * batch_size,
        "data.views": 0,
        "data.validation": '""',
        "data.test": '""',
        "student.model": size.student,
        "teacher.model": size.teacher,
        "teacher.chunk_size": batch_size,
        "train.num_steps": NUM_BATCHES,
        "train.batch_size": batch_size,
        "train.device": device.type,
        "train.stacked": stacked,
    }
    config = load_recipe("clip-kd", [f"{key}={value}" for key, value in settings.items()])
    members: dict[str, RunConfig] = {
        f"member {number}": config.model_copy(update={"seed": number}) for number in range(num_members)
    }
    return build_cohort(members, like=like)
