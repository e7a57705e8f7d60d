from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from workbench.bench import training
from workbench.bench.training import (
    APART,
    CACHED,
    DECODE,
    LIVE,
    NO_TEACHER,
    ONE_RUN,
    PARTS,
    STACKED,
    STUDENT,
    TEACHER,
    TOGETHER,
    Size,
    cache_rows,
    choose_size,
    cohort_rows,
)
from workbench.engine.teacher_cache.manifest import CACHES
from workbench.models.teacher import Teacher

CPU = torch.device("cpu")


@pytest.fixture
def size(tiny_models: dict[str, str]) -> Size:
    return Size("tiny", tiny_models["teacher"], tiny_models["student"], 16)


@contextmanager
def counted_images() -> Iterator[list[int]]:
    """While the block runs, the number of images of every teacher forward."""
    counts: list[int] = []
    honest = Teacher.embed_image

    def counting(self: Teacher, image: torch.Tensor) -> torch.Tensor:
        counts.append(len(image))
        return honest(self, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "embed_image", counting)
        yield counts


def test_three_steps_take_turns_and_leave_no_cache(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)
    before = CACHES.entries()
    rows = {row.case: row for row in cache_rows(size, 16, CPU)}
    assert list(rows) == [f"tiny, {name}" for name in (LIVE, CACHED, NO_TEACHER)]
    assert rows[f"tiny, {LIVE}"].ratio == rows[f"tiny, {NO_TEACHER}"].floor_ratio == 1
    for row in rows.values():
        assert row.ratio == pytest.approx(rows[f"tiny, {LIVE}"].time_s / row.time_s)
    assert CACHES.entries() == before


def test_only_the_live_step_runs_the_teacher(size: Size) -> None:
    with training.cache_steps(size, 16, CPU) as steps, counted_images() as images:
        asked = {}
        for name, step in steps.items():
            images.clear()
            step()
            step()
            asked[name] = sum(images)
    assert asked == {LIVE: 32, CACHED: 0, NO_TEACHER: 0}


def test_an_unknown_size_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'samples'"):
        choose_size("sample")


def test_a_cohort_is_compared_with_single_runs_and_what_sharing_allows(
    size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)
    rows = {row.case: row for row in cohort_rows(size, 3, 8, CPU, stacked=True)}
    apart, together, stacked = (
        rows[f"3 {what}"] for what in (f"runs, {APART}", f"members, {TOGETHER}", f"members, {STACKED}")
    )
    assert sum(rows[part].share for part in PARTS) == pytest.approx(1)
    assert together.ratio == pytest.approx(apart.time_s / together.time_s)
    decode_s, teacher_s, student_s = (rows[part].time_s for part in PARTS)
    allowed = 3 * (decode_s + teacher_s + student_s) / (decode_s + teacher_s + 3 * student_s)
    assert 1 < allowed < 3
    assert together.floor_ratio * together.ratio == pytest.approx(allowed)
    assert stacked.floor_ratio == pytest.approx(stacked.time_s / rows[ONE_RUN].time_s)


def test_only_single_runs_need_a_teacher_forward_per_student(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COHORT_BATCHES", 2)
    contenders, asked = training.cohort_steps(size, 3, 8, CPU, also_stacked=True), {}
    with counted_images() as images:
        for name, work in contenders.items():
            images.clear()
            for _ in range(3):  # more than there are batches: none may be remembered
                work()
            asked[name] = sum(images) / 24
    assert asked == {DECODE: 0, TEACHER: 1, STUDENT: 0, ONE_RUN: 1, APART: 3, TOGETHER: 1, STACKED: 1}
