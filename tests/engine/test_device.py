"""What is left to the device is decided by the device alone, before anything is recorded."""

import pytest
import torch

from workbench.config.run import RunConfig
from workbench.engine import device
from workbench.engine.device import resolve_device, resolved


def config(precision: str, where: str = "auto") -> RunConfig:
    return RunConfig.parse({"train": {"precision": precision, "device": where}})


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_on_a_gpu_auto_is_bf16_where_there_is_such(monkeypatch, has_bf16: bool, expected: str) -> None:
    monkeypatch.setattr(device, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 and not including_emulation
    )
    assert resolved(config("auto")).train.precision == expected
    assert resolved(config("fp32")).train.precision == "fp32"


def test_on_a_cpu_auto_is_float32_and_what_is_asked_for_stays() -> None:
    assert resolved(config("auto", "cpu")).train.precision == "fp32"
    assert resolved(config("bf16", "cpu")).train.precision == "bf16"
    assert resolved(config("auto", "cpu")).model_copy(update={"train": config("auto", "cpu").train}) == config(
        "auto", "cpu"
    )


def test_a_gpu_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU that torch sees: use auto or cpu"):
        resolve_device("cuda")
