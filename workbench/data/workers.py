"""Processes that make batches, or parts of them, ahead of the consumer."""

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class _WorkerResult:
    """What a worker made, or the error message instead of it.

    The DataLoader would wrap an exception in the worker's traceback; a message stays one line.
    """

    made: Any = None
    error: str | None = None


@dataclass(frozen=True)
class _Items(TorchDataset[_WorkerResult]):
    """Items as the DataLoader's samples: it decides neither order nor content."""

    make: Callable[[Any], Any]

    def __getitem__(self, item: Any) -> _WorkerResult:
        try:
            return _WorkerResult(self.make(item))
        except ValueError as error:
            return _WorkerResult(error=str(error))


def from_workers(make: Callable[[Item], Made], items: Iterable[Item], num_workers: int) -> Generator[Made, None, None]:
    """``map(make, items)`` in order, computed ahead by processes, two items each. Closing the iterator ends them.

    Args:
        make: picklable if processes are spawned; its tensors come back in shared memory. Its ValueError is raised at
            that item's position.
    """
    # batch_size=None: items are not collected. The generator keeps the DataLoader from drawing its base seed from
    # torch's global one.
    loader = DataLoader(
        _Items(make),
        sampler=items,
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),
    )
    return _made_by(iter(loader))  # processes are started here, not in the thread that reads from them


def _made_by(results: Iterator[_WorkerResult]) -> Generator[Any, None, None]:
    try:
        for result in results:
            if result.error is not None:
                raise ValueError(result.error)
            yield result.made
    finally:
        del results  # ends the processes, although an error may keep this frame


def _ignore_signals(_worker: int) -> None:
    """Ignores the signals that the main process handles by saving and stopping.

    They reach the whole process group. A worker that died of one would make the DataLoader raise before the main
    process has saved; so Ctrl-C, SIGHUP and SIGUSR1 are ignored, and SIGTERM exits without a traceback.
    """
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if number := getattr(signal, name, None):  # Windows has only the first
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
