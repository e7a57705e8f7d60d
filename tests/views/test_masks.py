"""The mask timeline, pruned metrics and thresholds, against their snapshots."""

import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.events import EvalDone
from workbench.runs.snapshots import MaskSnapshot, TowerMask
from workbench.views.masks import cut_at, mask_timeline, pruned, removed, sizes

SHAPE = TowerShape(width=2, head_width=2, heads=(2, 0), channels=(1, 4))


def snapshot(step: int, openness: float, towers: tuple[str, ...] = ("text",)) -> MaskSnapshot:
    def some(size: int) -> np.ndarray:
        return np.full(size, openness, dtype=np.float32)

    mask = TowerMask(SHAPE, some(2), (some(2), some(0)), (some(1), some(4) * np.float32(0.5)))
    return MaskSnapshot(step, step // 10, step % 10 < 5, 1 - openness, 0.5, dict.fromkeys(towers, mask))


def test_the_timeline_has_every_snapshot() -> None:
    view = mask_timeline([snapshot(0, 1.0), snapshot(5, 0.75), snapshot(10, 0.5)])
    assert view.steps == [0, 5, 10]
    assert view.sparsity.value.tolist() == [0, 0.25, 0.5]
    assert view.target.value.tolist() == [0.5] * 3
    assert view.stage_N.tolist() == [1, 1, 2]
    assert view.learning_N.tolist() == [True, False, True]
    densities = view.towers["text"]
    assert densities.embedding_N.tolist() == [1, 0.75, 0.5]
    assert densities.heads_KN.tolist() == [[1, 0.75, 0.5], [0, 0, 0]]
    assert densities.channels_KN.tolist() == [[1, 0.75, 0.5], [0.5, 0.375, 0.25]]


def test_json_is_by_snapshot() -> None:
    document = mask_timeline([snapshot(0, 1.0), snapshot(5, 0.5)]).to_json()
    assert document["densities"]["text"]["channels"] == [[1, 0.5], [0.5, 0.25]]
    assert document["sparsity"] == [0, 0.5]


def test_a_tower_that_is_not_in_every_snapshot_is_left_out() -> None:
    view = mask_timeline([snapshot(0, 1.0, ("image", "text")), snapshot(5, 0.5)])
    assert view.towers.keys() == {"text"}


def test_fewer_than_two_snapshots_have_no_timeline() -> None:
    for few in ([], [snapshot(0, 1.0)]):
        with pytest.raises(ValueError, match="do not change in this run"):
            mask_timeline(few)


def test_thinning_keeps_the_ends() -> None:
    view = mask_timeline([snapshot(step, 1.0) for step in range(0, 100, 10)])
    assert view.thinned(4) == [0, 3, 6, 9]
    assert view.thinned(99) == list(range(10))


CUT_SHAPE = TowerShape(width=4, head_width=2, heads=(2,), channels=(4,))


def cut_snapshot(step: int, stage: int, kept: int) -> MaskSnapshot:
    channels = np.array([1.0] * kept + [0.0] * (4 - kept), dtype=np.float32)
    mask = TowerMask(CUT_SHAPE, np.ones(4, dtype=np.float32), (np.ones(2, dtype=np.float32),), (channels,))
    return MaskSnapshot(step, stage, step % 20 < 10, 1 - kept / 4, 0.5, {"image": mask})


def evaluated(step: int, value: float, split: str = "validation") -> EvalDone:
    return EvalDone(run="a", step=step, split=split, num_pairs=9, metrics={"image_to_text_r1": value}, elapsed_s=1.0)


SNAPSHOTS = [cut_snapshot(0, 0, 4), cut_snapshot(10, 0, 3), cut_snapshot(20, 1, 3), cut_snapshot(30, 1, 1)]


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
    total = CUT_SHAPE.block_weights
    assert rows[1, "weights"].gone + rows[2, "weights"].gone == pytest.approx(3 * 2 * 4 / total)


GATED_SHAPE = TowerShape(width=4, head_width=2, heads=(2, 0), channels=(2, 3))


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


MASK = TowerMask(
    GATED_SHAPE, floats(1, 0.9, 0.4, 0.1), (floats(0.8, 0.3), floats()), (floats(1, 0), floats(0.6, 0.5, 0.2))
)
SNAPSHOT = MaskSnapshot(7, 0, True, 0.3, 0.4, {"text": MASK})


def test_parts_at_or_below_the_threshold_are_removed() -> None:
    view = cut_at(SNAPSHOT, 0.5).towers["text"]
    assert (view.student.width, view.student.heads, view.student.channels) == (2, (1, 0), (1, 1))
    assert view.teacher == GATED_SHAPE


def test_threshold_0_removes_closed_gates_and_1_keeps_certainly_open_ones() -> None:
    nothing, all_but_certain = cut_at(SNAPSHOT, 0.0).towers["text"], cut_at(SNAPSHOT, 1.0).towers["text"]
    assert (nothing.student.width, nothing.student.channels) == (4, (1, 3))
    assert (all_but_certain.student.width, all_but_certain.student.heads) == (1, (0, 0))
    assert all_but_certain.student.channels == (1, 0)


def test_sizes_are_kept_shares_and_never_increase() -> None:
    found = sizes(SNAPSHOT, [0.0, 0.25, 0.5, 0.75, 1.0])
    total = (4 * 2 * 2 + 2 * 5) * 4
    assert found[2] == pytest.approx((4 * 2 * 1 + 2 * 2) * 2 / total)
    assert (np.diff(found) <= 0).all()


def test_a_threshold_is_a_probability() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        cut_at(SNAPSHOT, 1.5)
