"""The predictions for a GPU: what measures them runs on a CPU at small sizes, and what fails is a row."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from workbench.bench import gpu
from workbench.bench.gpu import Estimate, Found, estimates
from workbench.bench.training import Size

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns each: these tests ask what is measured, not how long it takes."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)


@pytest.fixture(scope="module")
def size(tiny_models: dict[str, str]) -> Size:
    return Size("tiny", tiny_models["teacher"], tiny_models["student"], 8)


def test_every_figure_is_measured(size: Size) -> None:
    figures = {
        "step": gpu.rate(size, 8, CPU, precision="fp32"),
        "live": gpu.rate(size, 8, CPU, is_live=True),
        "batches": gpu.batch_rate(size, 8, CPU),
        "bf16": gpu.half_ratio(size, 8, CPU),
        "blocks": gpu.blocks_ratio(size, 8, CPU),
        "stacked": gpu.stacked_ratio(size, 8, CPU, num_members=2),
        "losses": gpu.losses_s(16, CPU),
        "TF32": gpu.losses_s(16, CPU, tf32=True),
    }
    assert all(figure > 0 for figure in figures.values()), figures
    assert gpu.losses_mb(16, CPU) >= 0
    assert not torch.backends.cuda.matmul.allow_tf32


def test_predictions_have_a_range_and_one_case_each() -> None:
    listed = estimates()
    assert len({estimate.case for estimate in listed}) == len(listed) >= 12
    for estimate in listed:
        assert 0 < estimate.low <= estimate.high
        assert estimate.unit in ("pairs/s", "s", "MB", "times")


def weights_after(size: Size, how: str) -> list[torch.Tensor]:
    with gpu.cohort_of(size, 8, CPU, "fp32") as cohort:
        step = gpu.learn_step(cohort, how)
        for _ in range(3):
            step()
        return [parameter.detach().clone() for parameter in cohort.members[0].state.parameters()]


def test_a_graph_is_captured_of_the_learn_step_and_replayed_with_its_update(size: Size, monkeypatch) -> None:
    """The stand-in computes again at each replay, into the gradients and values of the capture."""

    def captured(work: Any, reset: Any) -> Any:
        def replay() -> None:
            reset()
            work()

        reset()
        return replay, work()

    monkeypatch.setattr(gpu, "captured", captured)
    for one, other in zip(weights_after(size, "graph"), weights_after(size, "eager"), strict=True):
        assert torch.equal(one, other)


def test_both_towers_are_compiled(size: Size, monkeypatch) -> None:
    compiled: list[nn.Module] = []

    def compile(self: nn.Module) -> None:
        compiled.append(self)

    monkeypatch.setattr(nn.Module, "compile", compile)
    with gpu.cohort_of(size, 8, CPU, "fp32") as cohort:
        gpu.learn_step(cohort, "compile")
        towers = cohort.members[0].state.student.towers
        assert compiled == [towers.visual, towers.transformer]


def test_what_fails_is_a_row_with_the_reason() -> None:
    def fails(_: torch.device) -> float:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    (found,) = Estimate("a graph", "pairs/s", 1.0, 2.0, fails).rows(CPU)
    assert (found.measured, found.case) == (None, "a graph")
    assert "not permitted when stream is capturing" in found.failed
    assert Estimate("a step", "s", 1.0, 1.0, lambda _: 0.5).rows(CPU) == [Found("a step", "s", 1.0, 1.0, 0.5)]


def test_without_a_gpu_the_command_is_one_line_and_exit_2(workbench) -> None:
    result = workbench("bench", "gpu")
    assert result.code == 2
    assert "bench gpu needs a GPU" in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert result.out == ""


def test_the_table_has_predictions_next_to_figures(workbench, monkeypatch) -> None:
    def fails(_: torch.device) -> float:
        raise RuntimeError("no")

    steps = Estimate("steps", "pairs/s", 26_000, 38_000, lambda _: 32_000.0)
    listed = [steps, Estimate("graph", "s", 1.15, 1.15, fails)]
    monkeypatch.setattr(gpu, "estimates", lambda: listed)
    monkeypatch.setattr(gpu, "check_gpu", lambda: CPU)
    document = json.loads(workbench("bench", "gpu", "--json").out)
    assert document["rows"] == [
        Found("steps", "pairs/s", 26e3, 38e3, 32e3).to_json(),
        Found("graph", "s", 1.15, 1.15, None, "no").to_json(),
    ]
    shown = workbench("bench", "gpu").out
    assert "26,000 to 38,000" in shown
    assert "32,000" in shown
    assert "failed: no" in shown
