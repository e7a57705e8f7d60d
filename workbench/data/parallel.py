"""Ordered prefetching with threads, in bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def look_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, depth: int
) -> Generator[Result, None, None]:
    """``map(function, items)`` in order, with up to ``depth`` results computed ahead of the consumer.

    An exception of ``function`` reaches the consumer at that item's position. When the iterator is closed or fails,
    each thread finishes its current call and ends.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="look-ahead")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            # Waiting for the oldest result keeps the order and bounds memory: at most depth + 1 results exist.
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
