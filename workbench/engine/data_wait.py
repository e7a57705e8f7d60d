"""How much of its time a run waits for data: what a GPU at 0 % usually means."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

LONG_S = 30.0  # before which a share says little
MUCH = 0.5  # of the time, from which on it is worth a warning


class DataWait:
    """Times the waits for an iterator's items, and all the time from its first item on.

    Making the first item starts processes and opens files, which is no sign of slow data.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._start_s = time.perf_counter()
        self._is_reported = False

    def timed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; evaluations and pauses between them count as time that was not spent waiting."""
        iterator = iter(items)
        for item in iterator:  # the first, which is not timed
            yield item
            break
        self._start_s = time.perf_counter()
        while True:
            asked_s = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - asked_s
            yield item

    def news(self, num_workers: int) -> str:
        """One sentence, once, if much of the time is spent waiting; empty otherwise."""
        total_s = time.perf_counter() - self._start_s
        if self._is_reported or total_s < LONG_S or self._waited_s < MUCH * total_s:
            return ""
        self._is_reported = True
        more = max(4, 2 * num_workers)
        return (
            f"{self._waited_s / total_s:.0%} of the time is spent waiting for data: `workbench data prepare` "
            f"decodes images once, or data.num_workers={more} in run.toml before `workbench runs resume`"
        )
