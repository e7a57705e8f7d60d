"""A run that mostly waits for its data says so once, with what to do about it."""

import time
from collections.abc import Callable, Iterator

import pytest

from workbench.config.run import RunConfig
from workbench.engine import data_wait
from workbench.engine.build import build_cohort
from workbench.engine.data_wait import DataWait
from workbench.engine.loop import train
from workbench.events import Warned


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(seconds)`` lets so much time pass; nothing else does."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


@pytest.mark.parametrize(
    ("first_s", "wait_s", "work_s", "share"),
    [(0, 3, 1, "75%"), (0, 1, 1, "50%"), (0, 1, 3, ""), (500, 1, 3, ""), (500, 3, 1, "75%"), (0, 0.3, 0.1, "")],
)
def test_the_share_is_that_of_all_waits_but_the_first(clock, first_s, wait_s, work_s, share) -> None:
    def items() -> Iterator[int]:
        for number in range(20):
            clock(wait_s if number else first_s)
            yield number

    wait, found = DataWait(), []
    for _ in wait.timed(items()):
        clock(work_s)
        found.append(wait.news(num_workers=3))
    warnings = [one for one in found if one]
    assert len(warnings) == bool(share)
    assert [share in one and "data.num_workers=6" in one for one in warnings] == [True] * len(warnings)


def test_no_items_are_no_wait() -> None:
    assert list(DataWait().timed([])) == []


def test_every_run_of_a_cohort_is_warned(tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_wait, "LONG_S", 0.05)
    config = tiny(train={"num_steps": 6}, log={"every_steps": 1}, loss={"clip": {}}, data={"validation": ""})
    cohort = build_cohort({name: config.model_copy(update={"seed": seed}) for seed, name in enumerate("ab")})
    honest = cohort.stream.batch

    def slow(step: int):
        time.sleep(0.3)
        return honest(step)

    object.__setattr__(cohort.stream, "batch", slow)
    warned = [event for event in train(cohort) if isinstance(event, Warned) and "waiting for data" in event.message]
    assert sorted(event.run for event in warned) == ["a", "b"]
    assert "workbench data prepare" in warned[0].message
