import time

import pytest
import torch

from workbench.bench.contest import MIN_REPEATS, measure

CPU = torch.device("cpu")


def test_a_longer_sleep_takes_longer() -> None:
    measured = measure({"short": lambda: time.sleep(0.02), "long": lambda: time.sleep(0.1)}, CPU)
    assert measured["short"].time_s == pytest.approx(0.02, rel=0.5)
    assert measured["long"].time_s == pytest.approx(0.1, rel=0.5)


def test_contenders_take_turns_until_each_has_had_enough() -> None:
    turns: list[str] = []

    def contender(name: str, seconds: float):
        def work() -> None:
            turns.append(name)
            time.sleep(seconds)

        return work

    measure({"slow": contender("slow", 0.1), "quick": contender("quick", 0.05)}, CPU)
    warm_up = ["slow", "quick"]
    assert turns[:2] == warm_up
    assert turns[2 : 2 + 2 * MIN_REPEATS] == ["slow", "quick"] * MIN_REPEATS
    assert turns[2 + 2 * MIN_REPEATS :] in ([], ["quick"])


def test_what_takes_long_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_S", 0.05)
    turns = []
    measure({"one": lambda: (turns.append(1), time.sleep(0.06))}, CPU)
    assert len(turns) == 2  # the warm-up, and one that is timed
