"""The mask timeline against its snapshots, by tower and layer."""

import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.runs.snapshots import MaskSnapshot, TowerMask
from workbench.views.masks import mask_timeline

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
