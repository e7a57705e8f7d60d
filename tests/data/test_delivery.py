"""Signals that reach the whole process group, and memory for the GPU."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch import Tensor

from workbench.data.delivery import deliver, pinned
from workbench.embeddings import Batch


def batch_of(step: int) -> Batch:
    return Batch((str(step),), torch.full((1, 3, 2, 2), step, dtype=torch.uint8), torch.tensor([[step]]))


def test_no_steps_give_no_batches() -> None:
    for num_workers in (0, 2):
        assert list(deliver(batch_of, range(3, 3), num_workers=num_workers)) == []


def test_ctrl_c_is_left_to_the_run() -> None:
    batches = deliver(batch_of, range(50), num_workers=2)
    assert [next(batches).keys for _ in range(2)] == [("0",), ("1",)]  # both processes are at work
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    time.sleep(0.1)
    assert [batch.keys[0] for batch in batches] == [str(step) for step in range(2, 50)]


def test_sigterm_ends_the_processes_without_a_stir() -> None:
    batches = deliver(batch_of, range(1000), num_workers=2)
    assert [next(batches).keys for _ in range(2)] == [("0",), ("1",)]
    processes = multiprocessing.active_children()
    for process in processes:
        os.kill(process.pid, signal.SIGTERM)
    for process in processes:
        process.join(30)  # a worker that died of the signal would raise here, wherever the run just is
    assert [process.exitcode for process in processes] == [0, 0]
    batches.close()


def test_pinning_keeps_what_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies stand in for pinned memory, which torch has only where there is a GPU."""
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    alone = batch_of(3)
    shared = Batch(
        alone.keys, alone.student_image_BCHW, alone.student_text_BL, alone.student_image_BCHW, torch.ones(1, 2)
    )
    for batch in (alone, shared):
        copy = pinned(batch)
        assert copy.keys == batch.keys
        assert copy.student_image_BCHW is not batch.student_image_BCHW
        assert torch.equal(copy.student_image_BCHW, batch.student_image_BCHW)
        assert torch.equal(copy.student_text_BL, batch.student_text_BL)
    assert pinned(alone).teacher_image_BCHW is None
    copy = pinned(shared)
    assert copy.teacher_image_BCHW is copy.student_image_BCHW
    assert copy.teacher_text_BL is not None
    assert copy.teacher_text_BL is not shared.teacher_text_BL


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_lie_in_pinned_memory_beside_a_gpu(num_workers: int) -> None:
    for step, batch in enumerate(deliver(batch_of, range(4), num_workers=num_workers)):
        assert batch.student_image_BCHW.is_pinned()
        assert batch.student_text_BL.is_pinned()
        assert torch.equal(batch.student_image_BCHW, batch_of(step).student_image_BCHW)
