from pathlib import Path

import pytest

from workbench import limits


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the container's own limits; none are set."""
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 3), ("9900000 100000", 8)]
)
def test_a_containers_quota_limits_the_cores(container: Path, quota: str, cores: int) -> None:
    (container / "cpu.max").write_text(f"{quota}\n")
    assert limits.usable_cores() == cores


def test_without_a_container_the_cores_are_those_of_the_process(container: Path) -> None:
    assert not list(container.iterdir())
    assert limits.usable_cores() == 8


@pytest.mark.parametrize("name", limits.MEMORY_LIMITS)
def test_a_containers_limit_is_all_the_memory_there_is(container: Path, name: str) -> None:
    file = container / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{64 * 2**20}\n")
    assert limits.memory_mb() == (64, 64)
    file.write_text("max\n")
    assert limits.memory_mb()[0] > 64


def test_free_memory_is_the_kernels(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = container / "meminfo"
    meminfo.write_text("MemTotal:       1000 kB\nMemAvailable:     51200 kB\n")
    monkeypatch.setattr(limits, "MEMINFO", meminfo)
    total_mb, free_mb = limits.memory_mb()
    assert free_mb == 50
    meminfo.unlink()  # macOS
    assert limits.memory_mb() == (total_mb, total_mb)
