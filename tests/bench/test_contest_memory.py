import pytest
import torch

from workbench.bench.contest import PROCESS, peak_mb

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(not (PROCESS / "clear_refs").exists(), reason="peak memory needs Linux")


@needs_linux
@pytest.mark.parametrize("size_mb", [40, 200])
def test_what_is_allocated_is_what_is_measured(size_mb: int) -> None:
    assert peak_mb(lambda: torch.ones(size_mb * 2**18), CPU) == pytest.approx(size_mb, abs=10)


@needs_linux
def test_the_peak_counts_what_was_held_at_once() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.ones(100 * 2**18)

    assert peak_mb(one_after_another, CPU) == pytest.approx(100, abs=10)


@needs_linux
def test_what_was_held_before_does_not_count() -> None:
    held = torch.ones(200 * 2**18)
    assert peak_mb(lambda: None, CPU) < 10
    del held
    assert peak_mb(lambda: torch.ones(100 * 2**18), CPU) == pytest.approx(100, abs=10)


def test_without_proc_the_work_is_done_and_the_peak_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("workbench.bench.contest.PROCESS", tmp_path)
    done = []
    assert peak_mb(lambda: done.append(1), CPU) is None
    assert done == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_reports_its_allocators_peak() -> None:
    device = torch.device("cuda")
    assert peak_mb(lambda: torch.ones(200 * 2**18, device=device), device) == pytest.approx(200, abs=10)
