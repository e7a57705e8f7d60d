import pytest
import torch

from workbench.bench import cache
from workbench.bench.cache import CACHED, LIVE, NO_TEACHER, Size, cache_rows, choose_size
from workbench.engine.teacher_cache.manifest import CACHES
from workbench.models.teacher import Teacher

CPU = torch.device("cpu")


@pytest.fixture
def size(tiny_models: dict[str, str]) -> Size:
    return Size("tiny", tiny_models["teacher"], tiny_models["student"], 16)


def test_three_steps_take_turns_and_leave_no_cache(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)
    before = CACHES.entries()
    rows = {row.case: row for row in cache_rows(size, 16, CPU)}
    assert list(rows) == [f"tiny, {name}" for name in (LIVE, CACHED, NO_TEACHER)]
    assert rows[f"tiny, {LIVE}"].ratio == rows[f"tiny, {NO_TEACHER}"].floor_ratio == 1
    for row in rows.values():
        assert row.ratio == pytest.approx(rows[f"tiny, {LIVE}"].time_s / row.time_s)
    assert CACHES.entries() == before


def test_only_the_live_step_runs_the_teacher(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    honest = Teacher.embed_image

    def counting(self: Teacher, image: torch.Tensor) -> torch.Tensor:
        rows.append(len(image))
        return honest(self, image)

    with cache._steps(size, 16, CPU) as steps:
        monkeypatch.setattr(Teacher, "embed_image", counting)
        asked = {}
        for name, step in steps.items():
            rows.clear()
            step()
            step()
            asked[name] = sum(rows)
    assert asked == {LIVE: 32, CACHED: 0, NO_TEACHER: 0}


def test_an_unknown_size_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'samples'"):
        choose_size("sample")
