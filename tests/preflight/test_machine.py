import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from workbench.engine.start_checks import Finding
from workbench.preflight.machine import Gpu, Machine, Storage, inspect_machine, machine_findings, native_precisions

PLENTY_MB = 100_000.0


@pytest.fixture
def machine() -> Machine:
    folder = Storage("/here", PLENTY_MB, True)
    return Machine(
        host="there",
        system="Linux x86_64",
        gpu=None,
        driver_gpus=(),
        torch_cuda=None,
        cores=4,
        all_cores=8,
        load=3.0,
        threads=4,
        memory_mb=PLENTY_MB,
        free_memory_mb=PLENTY_MB,
        precisions=("fp32",),
        versions={},
        storage={"runs": folder, "cache": folder},
    )


def test_a_sound_machine_has_no_warning(machine: Machine) -> None:
    assert {finding.level for finding in machine_findings(machine)} == {"ok"}
    gpu = replace(machine, gpu=Gpu("H100", 80 * 1024, 79 * 1024), driver_gpus=("GPU 0: H100",))
    assert {finding.level for finding in machine_findings(gpu)} == {"ok"}
    assert "H100, 80 GB" in machine_findings(gpu)[0].message


@pytest.mark.parametrize(
    ("change", "check", "level", "words"),
    [
        ({"driver_gpus": ("GPU 0: H100",)}, "device", "problem", "torch is built without CUDA"),
        ({"driver_gpus": ("GPU 0: H100",), "torch_cuda": "13.2"}, "device", "problem", "built for CUDA 13.2"),
        ({"free_memory_mb": 1000.0}, "RAM", "warning", "1.0 of 97.7 GB free"),
        ({"threads": 8}, "threads", "warning", "8 for 4 cores"),
        ({"load": 12.5}, "load", "warning", "load average 12.5"),
        ({"storage": {"runs": Storage("/here", 1024.0, True)}}, "runs folder", "problem", "only 1.0 GB"),
        ({"storage": {"cache": Storage("/here", PLENTY_MB, False)}}, "cache folder", "problem", "cannot be written"),
    ],
)
def test_problems_of_the_machine_are_found(
    machine: Machine, one, monkeypatch: pytest.MonkeyPatch, change: dict, check: str, level: str, words: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = machine_findings(replace(machine, **change))
    assert one(found, check).level == level
    assert words in one(found, check).message
    assert sum(finding.level != "ok" for finding in found) == 1


def test_a_hidden_gpu_is_a_choice(machine: Machine, one, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = one(machine_findings(replace(machine, driver_gpus=("GPU 0: H100",))), "device")
    assert (found.level, found.remedy) == ("warning", "unset CUDA_VISIBLE_DEVICES")


def test_this_machine_is_looked_at_and_nothing_is_written(tmp_path: Path) -> None:
    machine = inspect_machine(tmp_path / "runs")
    assert 0 < machine.free_memory_mb <= machine.memory_mb
    assert 0 < machine.cores <= machine.all_cores
    assert machine.device == ("cuda" if machine.gpu else "cpu")
    assert machine.storage["runs"].folder == str(tmp_path / "runs")
    assert set(machine.versions) == {"workbench", "python", "torch", "open_clip"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'", 2),
        ("echo 'No devices were found'", 0),
        ("exit 9", 0),
    ],
)
def test_the_driver_is_asked_for_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, gpus: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert len(inspect_machine(tmp_path).driver_gpus) == gpus


def test_what_is_wrong_has_a_remedy_and_what_is_right_has_none() -> None:
    assert Finding("device", "ok", "a GPU").to_json() == {
        "check": "device",
        "level": "ok",
        "message": "a GPU",
        "remedy": "",
    }
    with pytest.raises(AssertionError):
        Finding("device", "problem", "no GPU")
    with pytest.raises(AssertionError):
        Finding("device", "ok", "a GPU", "buy another")


@pytest.mark.parametrize(
    ("has_bf16", "capability", "expected"),
    [(True, (8, 0), ("fp32", "fp16", "bf16")), (False, (7, 5), ("fp32", "fp16")), (False, (6, 1), ("fp32",))],
)
def test_native_precisions_of_a_gpu(monkeypatch, has_bf16: bool, capability: tuple[int, int], expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert native_precisions() == expected
