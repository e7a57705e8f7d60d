from pathlib import Path

import pytest
import torch

from workbench.engine.launch import launch
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.summary import read_summary

CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
ERRORS = [torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), MemoryError(), RuntimeError(CPU)]


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "python", "cpu"])
def test_too_little_memory_is_one_line_with_the_remedy(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    started = launch({"run": tiny()}, tmp_path)
    cohort, run = started.cohort, started.directories["run"]
    honest = cohort.teach

    def teach(batch, step):
        if step == 6:
            raise error
        return honest(batch, step)

    monkeypatch.setattr(cohort, "teach", teach)
    with pytest.raises(
        MemoryError, match=r"^out of memory on cpu after step 6 \(batch 20, 20 at a time, [^\n]*$"
    ) as told:
        list(started.events())
    assert "--set train.micro_batch_size=10" in str(told.value)
    summary = read_summary(run)
    assert (summary.state, summary.reason) == ("failed", f"MemoryError: {told.value}")
    assert newest_checkpoint(run) == run.checkpoints / "step-00000004"
    assert cohort.batch_size == 20


def test_other_errors_are_raised_as_they_are(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = launch({"run": tiny()}, tmp_path)
    monkeypatch.setattr(started.cohort, "teach", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        list(started.events())
