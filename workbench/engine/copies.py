"""Batches on their way to the device: on a GPU, copied while it computes the step before."""

from collections.abc import Iterable, Iterator
from itertools import count

import torch
from torch import Tensor

from workbench.embeddings import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on ``device``. On a GPU, each is valid until the next but one is asked for.

    Copies have a stream of their own there, so that one from pinned memory runs next to the step before. Two sets of
    tensors take turns: memory is bounded however far Python runs ahead, and Python never waits.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    compute = torch.cuda.current_stream(device)
    places = _Place(), _Place()
    for number, batch in enumerate(batches):
        place = places[number % 2]
        with torch.cuda.stream(copies):
            if place.free is not None:
                copies.wait_event(place.free)  # the step that reads what is there; the device waits, not Python
            there = place.filled(batch, compute)
            arrived = copies.record_event()
        compute.wait_event(arrived)
        yield there
        place.free = compute.record_event()


class _Place:
    """Tensors on the device that hold one batch after another.

    Attributes:
        free: recorded after the step that read them last; None before the first.
    """

    def __init__(self) -> None:
        self.free: torch.cuda.Event | None = None
        self._tensors: dict[int, Tensor] = {}

    def filled(self, batch: Batch, reader: torch.cuda.Stream) -> Batch:
        """The batch with its tensors copied here, on the current stream; ``reader`` is the stream that reads them."""
        numbers = count()

        def copied(tensor: Tensor) -> Tensor:
            number = next(numbers)  # Batch.mapped has one order
            there = self._tensors.get(number)
            if there is None or there.shape != tensor.shape or there.dtype != tensor.dtype:
                there = torch.empty(tensor.shape, dtype=tensor.dtype, device=reader.device)
                there.record_stream(reader)  # or its memory could be used again while that stream still reads it
                self._tensors[number] = there
            return there.copy_(tensor, non_blocking=True)

        return batch.mapped(copied)
