"""A step's batch depends on the data, the seed and the step, not on workers or on where the run started."""

import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.data import batches as module
from workbench.data.batches import BatchStream, Part, joined, prefetch
from workbench.data.crops import crop_box, crop_HWC
from workbench.data.order import epoch_order
from workbench.data.sources.tar import ShardDataset
from workbench.embeddings import Batch, InputSpec, ModelInputs
from workbench.engine.distributed import Ranks


def as_numbers(captions: Sequence[str]) -> Tensor:
    """The number at a caption's end."""
    return torch.tensor([[int(caption.split()[-1])] for caption in captions])


def as_lengths(captions: Sequence[str]) -> Tensor:
    return torch.tensor([[len(caption), 7] for caption in captions])


STUDENT = InputSpec(16, as_numbers, "numbers")
TEACHER = InputSpec(24, as_lengths, "lengths")


@pytest.fixture
def dataset(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> ShardDataset:
    """23 pairs in two shards."""
    return ShardDataset([write_tar(pairs(10), "00000.tar"), write_tar(pairs(13, start=10), "00001.tar")])


def stream(dataset: ShardDataset, teacher: InputSpec | None = TEACHER, **options: int) -> BatchStream:
    teachers = (teacher,) if teacher else ()
    return BatchStream(dataset, STUDENT, teachers, **({"batch_size": 5, "seed": 3} | options))


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys
    for name, tensor in vars(one).items():
        if isinstance(tensor, Tensor):
            assert torch.equal(tensor, getattr(other, name)), name
    for inputs, others in zip(one.teachers, other.teachers, strict=True):
        assert all(torch.equal(*pair) for pair in zip(inputs, others, strict=True))


def left_running() -> int:
    return len(multiprocessing.active_children()) + sum(
        thread.name.startswith("look-ahead") for thread in threading.enumerate()
    )


@pytest.mark.parametrize(("num_workers", "window"), [(0, 0), (1, 0), (2, 0), (0, 7), (2, 7)])
def test_batches_do_not_depend_on_workers_nor_on_the_start(
    dataset: ShardDataset, num_workers: int, window: int
) -> None:
    alone = [stream(dataset, window=window).batch(step) for step in range(10)]
    for start in (0, 3):
        made = list(stream(dataset, num_workers=num_workers, window=window).batches(start, 10))
        assert len(made) == 10 - start
        for expected, batch in zip(alone[start:], made, strict=True):
            assert_equal(expected, batch)
    assert left_running() == 0


@pytest.mark.parametrize("window", [0, 7])
def test_the_slices_of_ranks_partition_a_batch(broken: ShardDataset, window: int) -> None:
    whole = BatchStream(broken, STUDENT, (STUDENT,), batch_size=5, seed=3, window=window)
    for step in range(8):
        batch = whole.batch(step)
        slices = [replace(whole, part=Ranks(rank, 3, batch_size=5).rows(5)).batch(step) for rank in range(3)]
        assert_equal(batch, joined(slices, pin=False))
        assert batch.keys == tuple(key for of_rank in slices for key in of_rank.keys)


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
@pytest.mark.parametrize("part", [slice(None), slice(1, 5), slice(2, 3)])
def test_batches_do_not_depend_on_the_size_of_the_parts_that_processes_make(
    broken: ShardDataset, monkeypatch: pytest.MonkeyPatch, rows: int, part: slice
) -> None:
    alone = [BatchStream(broken, STUDENT, (STUDENT,), batch_size=5, seed=3, part=part).batch(step) for step in range(4)]
    monkeypatch.setattr(module, "MAX_PART_ROWS", rows)
    made = list(BatchStream(broken, STUDENT, (STUDENT,), batch_size=5, seed=3, part=part, num_workers=3).batches(0, 4))
    assert any(batch.replaced for batch in alone)
    for expected, batch in zip(alone, made, strict=True):
        assert_equal(expected, batch)
        assert (batch.indices, batch.views, batch.replaced) == (expected.indices, expected.views, expected.replaced)
        assert batch.teachers[0].image_BCHW is batch.student_image_BCHW
    assert left_running() == 0


def test_parts_are_bounded_by_rows_and_bytes(dataset: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def without_processes(_: object, items: Iterable[Part], **options: int) -> list[Batch]:
        seen.extend(len(item.rows) for item in items)
        assert options == {"num_workers": min(2, len(seen)), "num_parts": len(seen)}
        return []

    monkeypatch.setattr(module, "prefetch", without_processes)
    for max_rows, max_bytes, expected in (
        (256, 40_000_000, [23]),
        (10, 40_000_000, [10, 10, 3]),
        (256, 3 * 8 * (16**2 + 24**2), [8, 8, 7]),
        (256, 1, [1] * 23),
    ):
        monkeypatch.setattr(module, "MAX_PART_ROWS", max_rows)
        monkeypatch.setattr(module, "MAX_PART_BYTES", max_bytes)
        seen.clear()
        stream(dataset, batch_size=23, num_workers=2).batches(0, 1)
        assert seen == expected


def test_a_batch_holds_the_crop_and_caption_of_its_keys(dataset: ShardDataset) -> None:
    batch = stream(dataset).batch(6)  # the third batch of epoch 1
    order_N = epoch_order(23, 3, 1)
    assert batch.keys == tuple(f"k{number:03d}" for number in order_N[10:15])
    assert batch.student_text_BL.flatten().tolist() == order_N[10:15].tolist()
    assert batch.teachers[0].text_BL.tolist() == [[len(f"caption {number}"), 7] for number in order_N[10:15]]
    image = dataset[int(order_N[12])].image
    box = crop_box(3, batch.keys[2], 1, image.size)
    for images_BCHW, size in ((batch.student_image_BCHW, 16), (batch.teachers[0].image_BCHW, 24)):
        assert images_BCHW is not None
        assert images_BCHW.dtype == torch.uint8
        assert images_BCHW.shape == (5, 3, size, size)
        np.testing.assert_array_equal(images_BCHW[2].permute(1, 2, 0).numpy(), crop_HWC(image, size, box))


def test_views_repeat_after_their_number(dataset: ShardDataset) -> None:
    def image_of(key: str, batches: BatchStream, epoch: int) -> Tensor:
        [image_CHW] = [
            batch.student_image_BCHW[batch.keys.index(key)]
            for batch in (batches.batch(step) for step in range(23 * epoch, 23 * epoch + 23))
            if key in batch.keys
        ]
        return image_CHW

    two = stream(dataset, batch_size=1, views=2)
    shown = [image_of("k004", two, epoch) for epoch in range(4)]
    assert torch.equal(shown[0], shown[2])
    assert torch.equal(shown[1], shown[3])
    assert not torch.equal(shown[0], shown[1])
    unlimited = stream(dataset, batch_size=1)
    assert torch.equal(image_of("k004", unlimited, 1), shown[1])
    assert not torch.equal(image_of("k004", unlimited, 2), shown[2])


def test_captions_are_uniform_over_views(write_tar: Callable[..., Path], image: Callable[..., bytes]) -> None:
    dataset = ShardDataset([write_tar({"a.jpg": image(0), "a.json": b'{"captions": ["is 0", "is 1", "is 2"]}'})])
    batches = stream(dataset, batch_size=1)
    counts = Counter(batches.batch(step).student_text_BL.item() for step in range(300))
    assert sorted(counts) == [0, 1, 2]
    assert all(abs(count - 100) < 4 * (300 * 2 / 9) ** 0.5 for count in counts.values())  # 4 sigma


def test_equal_input_specs_share_tensors(dataset: ShardDataset) -> None:
    calls: list[int] = []

    def counted(captions: Sequence[str]) -> Tensor:
        calls.append(len(captions))
        return as_numbers(captions)

    form = InputSpec(16, counted, "counted")
    for batch in (stream(dataset, STUDENT).batch(0), *stream(dataset, STUDENT, num_workers=1).batches(0, 1)):
        assert batch.teachers[0].image_BCHW is batch.student_image_BCHW
        assert batch.teachers[0].text_BL is batch.student_text_BL
    BatchStream(dataset, form, (form,), batch_size=5, seed=0).batch(0)
    assert calls == [5]
    other_size = stream(dataset, InputSpec(24, as_numbers, "numbers")).batch(0)
    assert other_size.teachers[0].text_BL is other_size.student_text_BL
    assert other_size.teachers[0].image_BCHW is not other_size.student_image_BCHW


def test_without_a_teacher_there_is_none(dataset: ShardDataset) -> None:
    batch = stream(dataset, None).batch(0)
    assert batch.teachers == ()


def test_a_batch_larger_than_the_data_is_refused_at_once(dataset: ShardDataset) -> None:
    with pytest.raises(ValueError, match=r"^a batch of 24 needs as many pairs, but the data have 23: lower"):
        stream(dataset, batch_size=24)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_closing_early_leaves_no_thread_or_process(dataset: ShardDataset, num_workers: int) -> None:
    for _ in stream(dataset, num_workers=num_workers).batches(0, 1000):
        assert left_running() > 0
        break
    assert left_running() == 0


@pytest.fixture
def broken(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> ShardDataset:
    """20 pairs, of which two cannot be decoded."""
    return ShardDataset([write_tar(pairs(20) | {"k004.jpg": b"<html>", "k011.jpg": b""})])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_replaced_by_another_pair(broken: ShardDataset, num_workers: int) -> None:
    batches = list(stream(broken, num_workers=num_workers).batches(0, 8))
    replaced = [one for batch in batches for one in batch.replaced]
    assert sorted(one.reason for one in replaced) == ["empty file"] * 2 + ["no JPEG, PNG or WebP"] * 2  # two epochs
    assert all(re.fullmatch(r"shard '.*', image of 'k0(04|11)': [^\n]*", one.message) for one in replaced)
    assert all(len(set(batch.keys)) == 5 and not {"k004", "k011"} & set(batch.keys) for batch in batches)
    for batch in batches:
        assert batch.student_text_BL.flatten().tolist() == [int(key[1:]) for key in batch.keys]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_substitute_does_not_depend_on_workers_nor_on_the_start(broken: ShardDataset, num_workers: int) -> None:
    alone = [stream(broken).batch(step) for step in range(8)]
    for start in (0, 3):
        for expected, batch in zip(
            alone[start:], stream(broken, num_workers=num_workers).batches(start, 8), strict=True
        ):
            assert_equal(expected, batch)
            assert expected.replaced == batch.replaced
    others = [stream(broken, seed=4).batch(step).keys for step in range(8)]
    assert others != [batch.keys for batch in alone]


def test_a_batch_of_all_pairs_repeats_one_as_substitute(broken: ShardDataset) -> None:
    keys = stream(broken, batch_size=20).batch(0).keys
    assert len(set(keys)) == 18
    assert len(keys) == 20


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_usable_image_is_one_line(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], num_workers: int
) -> None:
    members = {name: b"<html>" if name.endswith("jpg") else content for name, content in pairs(6).items()}
    batches = stream(ShardDataset([write_tar(members)]), num_workers=num_workers).batches(0, 3)
    with pytest.raises(ValueError, match=r"^too many images cannot be used: .* shard '.*', image of 'k00\d'[^\n]*$"):
        next(batches)
    batches.close()
    assert left_running() == 0


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_generators_are_left_alone(dataset: ShardDataset, num_workers: int) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(stream(dataset, num_workers=num_workers).batches(0, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


def batch_of(step: int) -> Batch:
    return Batch((str(step),), torch.full((1, 3, 2, 2), step, dtype=torch.uint8), torch.tensor([[step]]))


def test_no_steps_give_no_batches() -> None:
    for num_workers in (0, 2):
        assert list(prefetch(batch_of, range(3, 3), num_workers=num_workers)) == []


def test_workers_ignore_ctrl_c() -> None:
    batches = prefetch(batch_of, range(50), num_workers=2)
    assert [next(batches).keys for _ in range(2)] == [("0",), ("1",)]  # both processes are at work
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    time.sleep(0.1)
    assert [batch.keys[0] for batch in batches] == [str(step) for step in range(2, 50)]


def slow_batch_of(step: int) -> Batch:
    time.sleep(0.0 if step < 50 else 0.2)
    return batch_of(step)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_closing_does_not_wait_for_the_other_parts_of_a_batch(num_workers: int) -> None:
    batches = prefetch(slow_batch_of, range(500), num_workers=num_workers, num_parts=50)
    assert len(next(batches)) == 50  # the next one takes 10 seconds
    start_s = time.monotonic()
    batches.close()
    assert time.monotonic() - start_s < 5
    assert left_running() == 0


def test_sigterm_ends_workers_quietly() -> None:
    batches = prefetch(batch_of, range(1000), num_workers=2)
    assert [next(batches).keys for _ in range(2)] == [("0",), ("1",)]
    processes = multiprocessing.active_children()
    for process in processes:
        os.kill(process.pid, signal.SIGTERM)
    for process in processes:
        process.join(30)  # a worker that died of the signal would raise here, wherever the run just is
    assert [process.exitcode for process in processes] == [0, 0]
    batches.close()


def test_pinning_keeps_shared_tensors_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies stand in for pinned memory, which torch has only where there is a GPU."""
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    alone = batch_of(3)
    inputs = ModelInputs(alone.student_image_BCHW, torch.ones(1, 2))
    shared = Batch(alone.keys, alone.student_image_BCHW, alone.student_text_BL, (inputs,))
    for batch in (alone, shared):
        copy = batch.pinned()
        assert copy.keys == batch.keys
        assert copy.student_image_BCHW is not batch.student_image_BCHW
        assert torch.equal(copy.student_image_BCHW, batch.student_image_BCHW)
        assert torch.equal(copy.student_text_BL, batch.student_text_BL)
    assert alone.pinned().teachers == ()
    copy = shared.pinned()
    assert copy.teachers[0].image_BCHW is copy.student_image_BCHW
    assert copy.teachers[0].text_BL is not shared.teachers[0].text_BL


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_parts", [1, 2])
def test_batches_are_in_pinned_memory_with_a_gpu(num_workers: int, num_parts: int) -> None:
    made = prefetch(batch_of, range(4), num_workers=num_workers, num_parts=num_parts)
    for step, batch in enumerate(made):
        assert batch.student_image_BCHW.is_pinned()
        assert batch.student_text_BL.is_pinned()
        steps = range(step * num_parts, (step + 1) * num_parts)
        assert batch.keys == tuple(map(str, steps))
        assert torch.equal(batch.student_text_BL, torch.tensor([[step] for step in steps]))
