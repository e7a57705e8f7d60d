"""Batches reach the GPU on a stream of their own: whole before a step reads them, and never over one that is read."""

from collections.abc import Iterator

import pytest
import torch

from tests.gpu.conftest import PretendedEvent, PretendedStream
from workbench.embeddings import Batch, ModelInputs
from workbench.engine.copies import on_device


def batches(number: int, size: int = 3) -> Iterator[Batch]:
    """Batches in pinned memory, whose values are their numbers; student and teacher share images."""
    for value in range(1, number + 1):
        image = torch.full((size, 3, 2, 2), value, dtype=torch.uint8)
        text = torch.full((size, 4), value)
        keys = tuple(f"{value} {row}" for row in range(size))
        mask = torch.full((size, 2), value)
        batch = Batch(keys, image, text, (ModelInputs(image, text + 1),), masks={(4, 0.5, 0): mask})
        yield batch.pinned() if torch.cuda.is_available() else batch


def test_each_batch_is_whole_when_it_is_read(gpu, waited) -> None:
    for value, (here, there) in enumerate(zip(batches(5), on_device(batches(5), gpu), strict=True), start=1):
        assert there.keys == here.keys
        assert there.student_image_BCHW.device == gpu
        assert there.student_image_BCHW is there.teachers[0].image_BCHW
        assert waited == []
        for tensor, expected in (
            (there.student_image_BCHW, value),
            (there.student_text_BL, value),
            (there.teachers[0].text_BL, value + 1),
            (there.masks[4, 0.5, 0], value),
        ):
            assert set(tensor.flatten().tolist()) == {expected}
        waited.clear()


def test_a_copy_waits_for_the_step_that_reads_its_place(gpu, monkeypatch) -> None:
    """From the third batch on, and before anything is copied: by an event after the step before the last."""
    log: list[tuple[str, int]] = []
    recorded: list[PretendedEvent] = []
    record, wait, stream = PretendedStream.record_event, PretendedStream.wait_event, PretendedStream.default

    def record_event(self: PretendedStream) -> PretendedEvent:
        event = record(self)
        if self is stream:
            recorded.append(event)
        return event

    def wait_event(self: PretendedStream, event: PretendedEvent) -> None:
        if event.stream is stream:
            (number,) = [number for number, one in enumerate(recorded, start=1) if one is event]
            log.append(("wait for step", number))
            assert not self.queue  # nothing is being copied yet
        wait(self, event)

    monkeypatch.setattr(PretendedStream, "record_event", record_event)
    monkeypatch.setattr(PretendedStream, "wait_event", wait_event)
    places = []
    for number, batch in enumerate(on_device(batches(5), gpu), start=1):
        places.append(id(batch.student_image_BCHW))
        log.append(("step", number))
    assert log == [
        ("step", 1),
        ("step", 2),
        ("wait for step", 1),
        ("step", 3),
        ("wait for step", 2),
        ("step", 4),
        ("wait for step", 3),
        ("step", 5),
    ]
    assert places == [places[0], places[1]] * 2 + [places[0]]
    assert places[0] != places[1]


def test_batches_of_another_shape_have_tensors_of_their_own(gpu) -> None:
    both = [*batches(2), *batches(2, size=5)]
    shapes = [tuple(batch.student_image_BCHW.shape) for batch in on_device(both, gpu)]
    assert shapes == [tuple(batch.student_image_BCHW.shape) for batch in both]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_on_a_cpu_they_are_the_batches(number: int) -> None:
    cpu = torch.device("cpu")
    found = list(on_device(batches(number), cpu))
    assert [int(batch.student_text_BL[0, 0]) for batch in found] == list(range(1, number + 1))
