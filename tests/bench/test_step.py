import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock

from workbench.bench import step
from workbench.bench.step import (
    BARE,
    LIVE,
    NUM_STEPS,
    NUM_WARM_UP_STEPS,
    OPEN_CLIP,
    OUTSIDE,
    PARTS,
    PREPARED,
    TOWERS,
    WHOLE,
    StepByParts,
    check_trace_path,
    step_config,
    step_rows,
    steps,
    trace,
    whole_step,
)
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.models.towers import restore_open_clips_blocks

CPU = torch.device("cpu")
Tiny = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns each: these tests ask what is measured, not how long it takes."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)


@pytest.fixture
def config(tiny: Tiny) -> RunConfig:
    return tiny(data={"validation": "", "views": 0})


def test_every_part_has_a_row_and_the_shares_are_of_all_parts(config: RunConfig) -> None:
    rows = {row.case: row for row in step_rows(config)}
    assert list(rows) == [LIVE, PREPARED, *PARTS, WHOLE, BARE, TOWERS, OPEN_CLIP]
    assert sum(rows[part].share for part in PARTS) == pytest.approx(1)
    assert rows[PREPARED].ratio == pytest.approx(rows[LIVE].time_s / rows[PREPARED].time_s)
    assert rows[BARE].ratio == pytest.approx(rows[WHOLE].time_s / rows[BARE].time_s)
    assert rows[WHOLE].floor_ratio / rows[BARE].floor_ratio == pytest.approx(rows[BARE].ratio)
    assert rows[TOWERS].ratio == rows[OPEN_CLIP].floor_ratio
    assert rows[WHOLE].floor_ratio > 1  # the teacher and the batch come on top of the student's towers


def test_without_prepared_data_the_step_makes_live_batches(tiny: Tiny) -> None:
    with steps(tiny(data={"validation": "", "prepare": "off"})) as (contenders, _):
        assert PREPARED not in contenders


def test_prepared_batches_are_the_live_ones(config: RunConfig) -> None:
    with steps(config) as (contenders, _):
        live, kept = contenders[LIVE](), contenders[PREPARED]()
    assert live.keys == kept.keys
    assert live.student_image_BCHW.equal(kept.student_image_BCHW)
    assert live.teachers[0].text_BL.equal(kept.teachers[0].text_BL)


def test_a_step_by_parts_is_the_engines(config: RunConfig) -> None:
    """Weights and optimizer state are bit-identical: the parts omit and repeat nothing."""
    apart, whole = (build_cohort({"run": config}) for _ in range(2))
    by_parts, at_once = StepByParts(apart), whole_step(whole, step._steps_of(whole))
    for _ in range(3):
        by_parts()
        at_once()
    ours, engines = (cohort.members[0].state for cohort in (apart, whole))
    for one, other in zip(ours.parameters(), engines.parameters(), strict=True):
        assert one.equal(other)
    for name, tensor in ours.optimizer_tensors().items():
        assert tensor.equal(engines.optimizer_tensors()[name]), name


def test_the_bare_loop_does_the_same_arithmetic(config: RunConfig) -> None:
    bare, whole = (build_cohort({"run": config}) for _ in range(2))
    step._bare(bare)()
    whole_step(whole, step._steps_of(whole))()
    found, expected = (list(cohort.members[0].state.parameters()) for cohort in (bare, whole))
    assert found
    for one, other in zip(found, expected, strict=True):
        assert one.grad.equal(other.grad)


def test_open_clips_towers_do_the_same_work(config: RunConfig) -> None:
    ours, theirs = (build_cohort({"run": config}) for _ in range(2))
    student = theirs.members[0].state.student
    assert restore_open_clips_blocks(student.towers, student.config)
    assert type(student.towers.visual.transformer.resblocks[0]) is ResidualAttentionBlock
    for cohort in (ours, theirs):
        step._towers(cohort)()
    found, expected = (cohort.members[0].state.student for cohort in (ours, theirs))
    for (name, one), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        if not name.endswith("in_proj_bias"):  # a key's bias has no gradient, and Adam scales its rounding up
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0, msg=name)


def test_the_run_keeps_its_teacher_live_and_small_data() -> None:
    config = step_config("clip-kd", ["train.batch_size=16"])
    assert (config.data.views, config.data.num_pairs, config.data.validation) == (0, 16 * step.NUM_BATCHES, "")
    assert step_config("clip-kd", ["data.views=3", "data.num_pairs=150"]).data.num_pairs == 150
    assert step_config("clip-kd", ["data.views=3"]).data.views == 3


def test_micro_batches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set train\.micro_batch_size=0"):
        step_config("clip-kd", ["train.micro_batch_size=10"])


def test_a_trace_names_what_was_recorded_and_the_heaviest_operators(tmp_path: Path) -> None:
    path, number, matrix = tmp_path / "step.json", iter(range(100)), torch.ones(64, 64)

    def step() -> None:
        with torch.profiler.record_function("products"):
            time.sleep(0.001)
            (matrix @ matrix).sum()
        next(number)

    *heaviest, outside = trace(step, path, CPU)
    assert next(number) == NUM_WARM_UP_STEPS + NUM_STEPS
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert {"products", "aten::mm", "aten::sum"} <= {*names} and {one.name for one in heaviest} <= names
    assert {one.name: one.calls for one in heaviest}["aten::mm"] == 1
    assert [one.time_s for one in heaviest] == sorted((one.time_s for one in heaviest), reverse=True)
    assert outside.name == OUTSIDE
    assert outside.time_s >= 0.001  # the sleep is in no operator
    assert 0 < outside.share < 1
    assert sum(one.share for one in (*heaviest, outside)) == pytest.approx(1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["trace.txt", "missing/trace.json", "."])
def test_a_trace_that_cannot_be_written_is_refused_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="--trace"):
        check_trace_path(tmp_path / name)
