import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.runs.snapshots import MaskSnapshot, TowerMask
from workbench.views.masks import cut_at, sizes

SHAPE = TowerShape(width=4, head_width=2, heads=(2, 0), channels=(2, 3))


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


MASK = TowerMask(SHAPE, floats(1, 0.9, 0.4, 0.1), (floats(0.8, 0.3), floats()), (floats(1, 0), floats(0.6, 0.5, 0.2)))
SNAPSHOT = MaskSnapshot(7, 0, True, 0.3, 0.4, {"text": MASK})


def test_parts_at_or_below_the_threshold_are_removed() -> None:
    view = cut_at(SNAPSHOT, 0.5).towers["text"]
    assert (view.student.width, view.student.heads, view.student.channels) == (2, (1, 0), (1, 1))
    assert view.teacher == SHAPE


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
