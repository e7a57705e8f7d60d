"""Decoding images in threads: in order, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from workbench.data.dataset import Dataset, Sample
from workbench.data.unusable import ImageError
from workbench.embeddings import BadImage
from workbench.progress import with_bar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 8
MANY_IMAGES = 200  # that deserve a progress bar


def or_bad_image(function: Callable[..., Result], *arguments: object) -> Result | BadImage:
    """``function(*arguments)``, or why its image is unusable."""
    try:
        return function(*arguments)
    except ImageError as error:
        return BadImage(error.reason, str(error))


def decoding_threads() -> int:
    """Number of threads that decode images."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def look_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int = 0, depth: int = 0
) -> Generator[Result, None, None]:
    """``map(function, items)`` in order, with up to ``depth`` results computed ahead of the consumer.

    An exception of ``function`` reaches the consumer at that item's position. When the iterator is closed or fails,
    each thread finishes its current call and ends.

    Args:
        num_threads: 0 for as many as decode images.
        depth: 0 for two a thread.
    """
    num_threads = num_threads or decoding_threads()
    depth = depth or 2 * num_threads
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


def each_image(
    dataset: Dataset, indices: Sequence[int], function: Callable[[Sample], Result]
) -> Iterator[tuple[int, Result | BadImage]]:
    """(index, function(sample) or why the image is unusable), in order; several threads, a progress bar if many."""
    results = look_ahead(lambda index: or_bad_image(lambda: function(dataset[index])), indices)
    return zip(with_bar(indices, "decoding images", MANY_IMAGES), results, strict=True)
