"""Micro-batches that are chosen by measured memory, on a simulated GPU whose memory the test decides."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

from workbench.engine import member as members
from workbench.engine import micro_batches
from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.engine.micro_batches import PROBES
from workbench.events import RunFinished, Warned
from workbench.process import MIB

pytestmark = pytest.mark.usefixtures("gpu")


class Memory:
    """A GPU that holds ``pair_mb`` for every pair that is encoded with a gradient, and 10 MB more."""

    def __init__(self, patch: pytest.MonkeyPatch, free_mb: float, pair_mb: float = 1.0) -> None:
        self.encoded: list[int] = []
        self.peak_mb = 0.0

        def encode(state: Any, batch: Any, *rest: Any) -> Any:
            if torch.is_grad_enabled():
                self.encoded.append(len(batch))
                self.peak_mb = 10 + pair_mb * len(batch)
            return self.honest(state, batch, *rest)

        self.honest = micro_batches.encode
        patch.setattr(micro_batches, "encode", encode)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: self.peak_mb * MIB)
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: (free_mb * MIB, 2**34))
        patch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)


@pytest.fixture
def auto(tiny):
    train = {"micro_batch_size": "auto", "batch_size": 30, "num_steps": 1, "device": "cuda", "precision": "fp32"}
    return tiny(train=train, data={"validation": ""}, log={"every_steps": 1})


def with_size(config: Any, size: int) -> Any:
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": size})})


def steps(config: Any) -> Iterator[Any]:
    """The member after each of its steps."""
    cohort = build_cohort({"run": config})
    (member,) = cohort.members
    with closing(cohort.batches()) as batches:
        for step, batch in batches:
            cohort.train_step(batch, cohort.teacher_forward(batch, step), step)
            yield member


def weights(member: Any) -> list[torch.Tensor]:
    return [parameter.detach().cpu().clone() for parameter in member.state.parameters()]


def test_the_measured_memory_decides_and_the_numbers_are_those_of_that_size(auto, monkeypatch) -> None:
    memory = Memory(monkeypatch, free_mb=35)  # 28 MB of it for activations, so that 17 pairs fit: two parts of 15
    cohort = build_cohort({"run": auto})
    (chosen,) = cohort.members
    events = list(train(cohort))
    assert isinstance(events[-1], RunFinished)
    assert memory.encoded == list(PROBES)
    assert chosen.micro_batches.size == 15
    warned = [(event.step, event.message) for event in events if isinstance(event, Warned)]
    assert [step for step, message in warned if "train.micro_batch_size=auto: 15 pairs" in message] == [1]
    *_, fixed = steps(with_size(auto, 15))
    assert all(torch.equal(one, other) for one, other in zip(weights(chosen), weights(fixed), strict=True))


def test_where_memory_runs_out_the_step_starts_over_with_half(auto, monkeypatch) -> None:
    Memory(monkeypatch, free_mb=1e6)
    honest, tried = members.backward, []

    def backward(*arguments: Any, micro_batch_size: int, **options: Any) -> Any:
        tried.append(micro_batch_size)
        values = honest(*arguments, micro_batch_size=micro_batch_size, **options)
        if not 0 < micro_batch_size <= 10:  # after the gradients are there, which must not be added to
            raise torch.OutOfMemoryError("CUDA out of memory")
        return values

    monkeypatch.setattr(members, "backward", backward)
    *_, halved = steps(auto)
    assert tried == [0, 15, 8]
    news = halved.micro_batches.new_warning()
    assert "8 pairs at a time" in news
    assert "step 1" in news
    assert halved.micro_batches.new_warning() == ""
    monkeypatch.setattr(members, "backward", honest)
    *_, fixed = steps(with_size(auto, 8))
    assert all(torch.equal(one, other) for one, other in zip(weights(halved), weights(fixed), strict=True))


def test_a_size_that_was_given_ends_the_run_where_memory_runs_out(auto, monkeypatch) -> None:
    def backward(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(members, "backward", backward)
    with pytest.raises(MemoryError, match=r"--set train\.micro_batch_size=4"):
        list(train(build_cohort({"run": with_size(auto, 8)})))
