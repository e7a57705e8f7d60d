"""Order, bounds and errors of prefetching, and that no thread is left running."""

import threading
import time

import pytest

from workbench.data.parallel import look_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("look-ahead")]


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("depth", [0, 2, 50])
def test_results_come_in_order(num_threads: int, depth: int) -> None:
    def slow_for_some(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    results = list(look_ahead(slow_for_some, range(20), num_threads=num_threads, depth=depth))
    assert results == [number**2 for number in range(20)]
    assert threads() == []


def test_no_more_calls_start_than_the_depth_allows() -> None:
    begun: list[int] = []
    results = look_ahead(begun.append, range(100), num_threads=4, depth=3)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.001)
        assert len(begun) <= taken + 3
    results.close()
    assert threads() == []


def test_an_error_keeps_its_position() -> None:
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = look_ahead(fail_at_three, range(9), num_threads=2, depth=5)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threads() == []


def test_closing_waits_only_for_the_current_call() -> None:
    begun: list[int] = []

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    results = look_ahead(slow, range(100), num_threads=1, depth=50)
    next(results)
    results.close()
    assert len(begun) < 50
    assert threads() == []
