"""Work done ahead of its consumer by threads, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def look_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, depth: int
) -> Generator[Result, None, None]:
    """``map(function, items)``, with up to ``depth`` results ready or under way while the consumer works.

    What ``function`` raises is raised to the consumer, at its place in the order. When the iterator is closed
    or fails, its threads end with the call that they are in.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="look-ahead")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
