import time

import pytest
import torch

from workbench.bench.contest import MIN_REPEATS, Timing, clock, compared, measure

CPU = torch.device("cpu")


def work_for(seconds: float) -> None:
    """Keep a core busy for so long, however many others want it."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_longer_work_takes_longer() -> None:
    measured = measure({"short": lambda: work_for(0.02), "long": lambda: work_for(0.06)}, CPU)
    assert measured["short"].time_s == pytest.approx(0.02, rel=0.2)
    assert measured["long"].time_s == pytest.approx(0.06, rel=0.2)


def test_one_thread_is_timed_by_its_own_work_and_several_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)

    def idle() -> None:
        time.sleep(0.02)

    assert (clock(CPU), clock(torch.device("cuda"))) == ("cpu", "wall")
    assert measure({"idle": idle}, CPU)["idle"].time_s < 0.01
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert clock(CPU) == "wall"
    assert measure({"idle": idle}, CPU)["idle"].time_s >= 0.02


def test_contenders_take_turns_until_each_has_had_enough() -> None:
    turns: list[str] = []

    def contender(name: str, seconds: float):
        def work() -> None:
            turns.append(name)
            work_for(seconds)

        return work

    measure({"slow": contender("slow", 0.08), "quick": contender("quick", 0.05)}, CPU)
    warm_up = ["slow", "quick"]
    assert turns[:2] == warm_up
    assert turns[2 : 2 + 2 * MIN_REPEATS] == ["slow", "quick"] * MIN_REPEATS
    assert turns[2 + 2 * MIN_REPEATS :] in ([], ["quick"])


def test_what_takes_long_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_S", 0.05)
    turns = []
    measure({"one": lambda: (turns.append(1), work_for(0.06))}, CPU)
    assert len(turns) == 2  # the warm-up, and one that is timed


def test_contenders_are_compared_with_two_of_them() -> None:
    measured = {"live": Timing(0.6, 10.0), "kept": Timing(0.2, 8.0), "floor": Timing(0.1, None)}
    rows = compared(measured, "small", 4, against="live", floor="floor")
    assert [row.case for row in rows] == ["small, live", "small, kept", "small, floor"]
    assert [row.ratio for row in rows] == pytest.approx([1, 3, 6])
    assert [row.floor_ratio for row in rows] == pytest.approx([6, 2, 1])
    assert [row.peak_mb for row in rows] == [10.0, 8.0, None]
