"""Batches made ahead of their use, by a thread or by processes, in pinned memory where there is a GPU."""

import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from workbench.data.look_ahead import look_ahead
from workbench.embeddings import Batch

NUM_BATCHES_AHEAD = 2


def deliver(make: Callable[[int], Batch], steps: range, *, num_workers: int) -> Generator[Batch, None, None]:
    """``map(make, steps)``, ahead of the consumer. Closing the iterator ends its thread or its processes.

    Args:
        make: the batch of a step, from nothing but the step; picklable where processes are spawned.
        steps: the steps, in order.
        num_workers: processes; 0 for one thread, which is enough where decoding is quicker than training.

    Raises:
        ValueError: as ``make`` raises it, at its place in the order.
    """
    pin = torch.cuda.is_available()
    if num_workers:
        return _from_workers(make, steps, num_workers, pin)
    return look_ahead(
        lambda step: pinned(make(step)) if pin else make(step), steps, num_threads=1, depth=NUM_BATCHES_AHEAD
    )


def pinned(batch: Batch) -> Batch:
    """The same batch where a GPU can fetch it in the background; shared tensors stay shared."""
    done: dict[int, Tensor] = {}

    def pin(tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            done[id(tensor)] = tensor.pin_memory()
        return done[id(tensor)]

    return replace(
        batch,
        student_image_BCHW=pin(batch.student_image_BCHW),
        student_text_BL=pin(batch.student_text_BL),
        teacher_image_BCHW=None if batch.teacher_image_BCHW is None else pin(batch.teacher_image_BCHW),
        teacher_text_BL=None if batch.teacher_text_BL is None else pin(batch.teacher_text_BL),
    )


@dataclass(frozen=True)
class _Parcel:
    """What a process hands over: a batch, or the line for people that stands in its place.

    An exception would arrive wrapped in the process's traceback, which is no line for people.
    """

    batch: Batch | None = None
    error: str = ""

    def pin_memory(self) -> "_Parcel":
        """Called by the DataLoader's pinning thread."""
        return self if self.batch is None else _Parcel(pinned(self.batch))


@dataclass(frozen=True)
class _Steps(Dataset[_Parcel]):
    """Steps as the DataLoader's samples, so that it decides nothing about order or content."""

    make: Callable[[int], Batch]

    def __getitem__(self, step: int) -> _Parcel:
        try:
            return _Parcel(self.make(step))
        except ValueError as error:
            return _Parcel(error=str(error))


def _from_workers(
    make: Callable[[int], Batch], steps: range, num_workers: int, pin: bool
) -> Generator[Batch, None, None]:
    # batch_size=None: a step is already a whole batch. With a generator of its own the DataLoader does not
    # draw its base seed from torch's global one. Its processes end with the loop below, however it is left.
    loader = DataLoader(
        _Steps(make),
        sampler=steps,
        batch_size=None,
        num_workers=min(num_workers, max(1, len(steps))),
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_run,
        generator=torch.Generator(),
    )
    for parcel in loader:
        if parcel.batch is None:
            raise ValueError(parcel.error)
        yield parcel.batch


def _leave_signals_to_the_run(_worker: int) -> None:
    """Signals reach the whole process group, and the run wants to finish its step and save.

    A process that died of one would raise in the middle of that: it stays through Ctrl-C, SIGHUP and SIGUSR1, and
    leaves quietly at SIGTERM.
    """
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if number := getattr(signal, name, None):  # Windows has only the first
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
