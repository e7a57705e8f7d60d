import time

import pytest
import torch

from workbench.bench.contest import MIN_REPEATS, PROCESS, Timing, clock, compared, measure, peak_mb

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(not (PROCESS / "clear_refs").exists(), reason="peak memory needs Linux")


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


@needs_linux
@pytest.mark.parametrize("size_mb", [40, 200])
def test_what_is_allocated_is_what_is_measured(size_mb: int) -> None:
    assert peak_mb(lambda: torch.ones(size_mb * 2**18), CPU) == pytest.approx(size_mb, abs=10)


@needs_linux
def test_the_peak_counts_what_was_held_at_once() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.ones(100 * 2**18)

    assert peak_mb(one_after_another, CPU) == pytest.approx(100, abs=10)


@needs_linux
def test_what_was_held_before_does_not_count() -> None:
    held = torch.ones(200 * 2**18)
    assert peak_mb(lambda: None, CPU) < 10
    del held
    assert peak_mb(lambda: torch.ones(100 * 2**18), CPU) == pytest.approx(100, abs=10)


def test_without_proc_the_work_is_done_and_the_peak_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("workbench.bench.contest.PROCESS", tmp_path)
    done = []
    assert peak_mb(lambda: done.append(1), CPU) is None
    assert done == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_reports_its_allocators_peak() -> None:
    device = torch.device("cuda")
    assert peak_mb(lambda: torch.ones(200 * 2**18, device=device), device) == pytest.approx(200, abs=10)
