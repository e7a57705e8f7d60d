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
    assert resolved(config("auto", "cpu")).model_dump(exclude={"train": {"precision"}, "data": {"num_workers"}}) == (
        config("auto", "cpu").model_dump(exclude={"train": {"precision"}, "data": {"num_workers"}})
    )


@pytest.mark.parametrize(
    ("where", "cores", "ranks", "expected"),
    [
        ("cpu", 8, 1, 0),
        ("cuda", 8, 1, 7),
        ("cuda", 8, 4, 1),
        ("cuda", 1, 1, 0),
        ("cuda", 100, 1, 16),
    ],
)
def test_the_number_of_workers_is_chosen_by_cores_and_recorded(
    monkeypatch, where: str, cores: int, ranks: int, expected: int
) -> None:
    monkeypatch.setattr(device, "resolve_device", lambda _: torch.device(where))
    monkeypatch.setattr(device, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert resolved(config("fp32")).data.num_workers == expected
    assert resolved(RunConfig.parse({"data": {"num_workers": 3}})).data.num_workers == 3
    monkeypatch.setenv("WORKBENCH_CORES", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert resolved(config("fp32")).data.num_workers == (where == "cuda")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU that torch sees: use auto or cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("train", "order", "expected"),
    [
        ("https://host/{0..9}.tar", "auto", "windows"),
        ("samples:scenes + s3://bucket/{0..9}.tar", "auto", "windows"),
        ("https://host/{0..9}.tar", "shuffle", "shuffle"),
        ("samples:scenes", "auto", "auto"),  # as earlier versions recorded it
    ],
)
def test_shards_on_other_machines_are_read_in_windows(train: str, order: str, expected: str) -> None:
    assert resolved(RunConfig.parse({"data": {"train": train, "order": order}})).data.order == expected
