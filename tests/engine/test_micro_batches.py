"""The micro-batch size that measured memory predicts; ``tests/gpu`` has the runs that choose it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.test_gradients import RESNET
from workbench.engine.build import build_cohort
from workbench.engine.micro_batches import PROBES, MicroBatches, fitting_size

CPU = torch.device("cpu")


@given(st.integers(1, 40_000), st.floats(0.01, 900), st.floats(0, 5_000), st.floats(1, 100_000))
def test_the_prediction_fits_and_one_part_less_would_not(batch: int, pair: float, fixed: float, room: float) -> None:
    few, more = (fixed + size * pair for size in PROBES)
    size = fitting_size(batch, (few, more), room)
    parts = -(-batch // size) if size else 1
    largest = size or batch
    assert parts * largest >= batch > (parts - 1) * largest
    slack = 1e-6 * (room + fixed) + 1e-6
    assert fixed + largest * pair <= room + slack or size == 1 or batch == 1
    if size and parts > 1:
        fewer = -(-batch // (parts - 1))
        assert fixed + fewer * pair > room - slack


def test_a_batch_that_fits_is_not_split_and_sizes_are_even() -> None:
    assert fitting_size(100, (8.0, 24.0), 100.0) == 0
    assert fitting_size(101, (8.0, 24.0), 100.0) == 51
    assert fitting_size(100, (18.0, 34.0), 60.0) == 50
    assert fitting_size(100, (18.0, 34.0), 5.0) == 1


def test_a_cpu_has_the_whole_batch_and_a_number_stays(tiny) -> None:
    assert (MicroBatches("auto", CPU).size, MicroBatches("auto", CPU).is_auto) == (0, False)
    assert MicroBatches(7, torch.device("cuda")).size == 7
    assert not MicroBatches(7, torch.device("cuda")).halve(20, 0)
    (member,) = build_cohort({"run": tiny(train={"micro_batch_size": "auto"})}).members
    assert member.micro_batches.is_chosen


@pytest.mark.parametrize("size", ["auto", 8])
def test_batch_normalization_refuses_them(tiny, tiny_models, tmp_path: Path, size: str | int) -> None:
    sizes = json.loads(Path(tiny_models["student"].removeprefix("config:")).read_text())
    file = tmp_path / "resnet.json"
    file.write_text(json.dumps(sizes | {"vision_cfg": RESNET}))
    config = tiny(student={"model": f"config:{file}"}, train={"micro_batch_size": size})
    with pytest.raises(ValueError, match=r"train\.micro_batch_size=0"):
        build_cohort({"run": config})
