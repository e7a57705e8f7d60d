import pytest
import torch

from workbench.bench import cohort
from workbench.bench.cache import Size
from workbench.bench.cohort import APART, DECODE, ONE_RUN, PARTS, STACKED, STUDENT, TEACHER, TOGETHER, cohort_rows
from workbench.models.teacher import Teacher

CPU = torch.device("cpu")


@pytest.fixture
def size(tiny_models: dict[str, str]) -> Size:
    return Size("tiny", tiny_models["teacher"], tiny_models["student"], 8)


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
    rows: list[int] = []
    honest = Teacher.embed_image

    def counting(self: Teacher, image: torch.Tensor) -> torch.Tensor:
        rows.append(len(image))
        return honest(self, image)

    monkeypatch.setattr(cohort, "NUM_BATCHES", 2)
    contenders = cohort._contenders(size, 3, 8, CPU, stacked=True)
    monkeypatch.setattr(Teacher, "embed_image", counting)
    asked = {}
    for name, work in contenders.items():
        rows.clear()
        for _ in range(3):  # more than there are batches: none may be remembered
            work()
        asked[name] = sum(rows) / 24
    assert asked == {DECODE: 0, TEACHER: 1, STUDENT: 0, ONE_RUN: 1, APART: 3, TOGETHER: 1, STACKED: 1}
