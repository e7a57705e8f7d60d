import io
from collections.abc import Iterator

import pytest
from PIL import Image

from workbench.bench import data
from workbench.bench.contest import choose_cases
from workbench.bench.data import CASES, DataCase, data_rows, photographs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns each: these tests ask what is measured, not how long it takes."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)


def few(num_pictures: int) -> Iterator[tuple[Image.Image, str]]:
    for number in range(num_pictures):
        yield Image.new("RGB", (60, 40), (number, 0, 0)), f"number {number}"


@pytest.mark.parametrize("working_size", [0, 32])
def test_every_kind_of_image_cache_has_a_row(working_size: int) -> None:
    rows = data_rows(DataCase("few", few, 12, 16, "words:scenes", 8, working_size), 4)
    assert [row.case for row in rows] == [
        *(f"few, pictures, {kept}" for kept in ("live", "pixels", "jpeg")),
        *(f"few, batches, {kept}" for kept in ("live", "pixels", "jpeg", "views")),
    ]
    assert {row.size for row in rows} == {4}
    for row in rows:
        assert row.time_s > 0
        assert row.ratio is not None
        assert row.floor_ratio is not None
    assert rows[0].ratio == rows[3].ratio == 1


def test_the_contenders_make_the_same_batches(tmp_path) -> None:
    case = DataCase("few", few, 12, 16, "words:scenes", 8, 32)
    live, *others = (data._batching(case, dataset, 4)() for dataset in data._datasets(case, tmp_path).values())
    assert others
    for other in others:
        assert other.keys == live.keys
        assert other.student_image_BCHW.equal(live.student_image_BCHW)
        assert other.student_text_BL.equal(live.student_text_BL)


def test_a_photograph_is_as_large_as_real_ones() -> None:
    ((image, _),) = photographs(1)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    assert image.size == (500, 375)
    assert 60_000 < len(buffer.getvalue()) < 160_000


def test_cases_are_chosen_by_name() -> None:
    assert choose_cases([], CASES) == list(CASES.values())
    with pytest.raises(ValueError, match="did you mean 'photographs'"):
        choose_cases(["photograph"], CASES)
    with pytest.raises(ValueError, match="--batch is at most 256 for photographs"):
        data_rows(CASES["photographs"], 257)
