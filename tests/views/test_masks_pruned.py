import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.events import EvalDone
from workbench.runs.snapshots import MaskSnapshot, TowerMask
from workbench.views.masks import pruned, removed

SHAPE = TowerShape(width=4, head_width=2, heads=(2,), channels=(4,))


def snapshot(step: int, stage: int, kept: int) -> MaskSnapshot:
    channels = np.array([1.0] * kept + [0.0] * (4 - kept), dtype=np.float32)
    mask = TowerMask(SHAPE, np.ones(4, dtype=np.float32), (np.ones(2, dtype=np.float32),), (channels,))
    return MaskSnapshot(step, stage, step % 20 < 10, 1 - kept / 4, 0.5, {"image": mask})


def evaluated(step: int, value: float, split: str = "validation") -> EvalDone:
    return EvalDone(run="a", step=step, split=split, num_pairs=9, metrics={"image_to_text_r1": value}, elapsed_s=1.0)


SNAPSHOTS = [snapshot(0, 0, 4), snapshot(10, 0, 3), snapshot(20, 1, 3), snapshot(30, 1, 1)]


def test_an_evaluation_has_the_sparsity_of_the_snapshot_before_it() -> None:
    events = [evaluated(5, 0.9), evaluated(12, 0.7), evaluated(30, 0.4), evaluated(31, 0.1, "test")]
    view = pruned(SNAPSHOTS, events, "image_to_text_r1")
    found = [(point.step, point.stage, point.learning, point.sparsity, point.value) for point in view.points]
    assert found == [(5, 1, True, 0, 0.9), (12, 1, False, 0.25, 0.7), (30, 2, False, 0.75, 0.4)]


def test_for_an_absent_metric_the_error_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="evaluated: image_to_text_r1"):
        pruned(SNAPSHOTS, [evaluated(5, 0.9)], "cka")
    with pytest.raises(ValueError, match="evaluated: none"):
        pruned(SNAPSHOTS, [], "cka")


def test_a_stage_removes_from_what_the_last_one_left() -> None:
    rows = {(row.stage, row.part): row for row in removed(SNAPSHOTS)}
    assert (rows[1, "channels"].before, rows[1, "channels"].after) == (4, 3)
    assert (rows[2, "channels"].before, rows[2, "channels"].after) == (3, 1)
    assert rows[2, "channels"].gone == pytest.approx(0.5)
    assert rows[2, "heads"].gone == 0
    total = SHAPE.block_weights
    assert rows[1, "weights"].gone + rows[2, "weights"].gone == pytest.approx(3 * 2 * 4 / total)
