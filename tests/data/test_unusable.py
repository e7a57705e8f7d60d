from contextlib import nullcontext

import pytest

from workbench.data.unusable import BadImageCount, RefusedError
from workbench.embeddings import BadImage

CUT, MISSING = BadImage("cut short or damaged", "a.jpg: truncated"), BadImage("missing file", "there is no b.jpg")


def tally(num_seen: int, *unusable: BadImage) -> BadImageCount:
    counted = BadImageCount()
    counted.add(num_seen, unusable)
    return counted


@pytest.mark.parametrize(
    ("num_seen", "num_unusable", "is_too_many"),
    [(0, 0, False), (100, 5, False), (100, 6, True), (6, 5, False), (5, 5, True), (1000, 50, False), (1000, 51, True)],
)
def test_too_many_is_more_than_five_per_cent_and_more_than_chance(
    num_seen: int, num_unusable: int, is_too_many: bool
) -> None:
    counted = tally(num_seen, *[CUT] * num_unusable)
    with pytest.raises(RefusedError) if is_too_many else nullcontext():
        counted.check()


def test_too_many_raise_with_reasons_and_examples() -> None:
    tally(100, CUT, CUT).check()
    with pytest.raises(
        ValueError,
        match=r"^too many images cannot be used, 8 of 40 \(5 missing file, 3 cut short or damaged; such as "
        r"there is no b.jpg; a.jpg: truncated\); up to 5% would be skipped: repair or remove them",
    ):
        tally(40, *[CUT] * 3, *[MISSING] * 5).check()


def test_messages_come_at_every_doubling_and_at_the_end() -> None:
    counted = BadImageCount()
    told = []
    for step in range(1, 21):
        counted.add(50, [CUT] if step % 2 else [])
        told.append(bool(counted.news()))
    assert [step for step, is_told in enumerate(told, start=1) if is_told] == [1, 3, 7, 15]
    assert counted.news(final=True).endswith("10 of 1,000 (10 cut short or damaged; such as a.jpg: truncated)")
    assert not counted.news(final=True)
    assert not BadImageCount().news(final=True)
