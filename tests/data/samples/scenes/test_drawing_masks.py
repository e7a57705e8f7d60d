import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.data.samples.scenes.drawing import bounding_boxes, mask_of, run_lengths

MASKS = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def test_run_lengths_of_a_mask_written_out():
    mask = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
    assert run_lengths(mask[None]) == [[1, 3, 2]]
    assert run_lengths(~mask[None]) == [[0, 1, 3, 2]]


@given(MASKS)
def test_masks_survive_the_round_trip(mask_MHW):
    for mask_HW, runs in zip(mask_MHW, run_lengths(mask_MHW), strict=True):
        assert sum(runs) == mask_HW.size
        assert (mask_of(runs, *mask_HW.shape) == mask_HW).all()


@given(MASKS)
def test_boxes_are_the_extremes_of_the_pixels_inside(mask_MHW):
    for mask_HW, (x0, y0, x1, y1) in zip(mask_MHW, bounding_boxes(mask_MHW).tolist(), strict=True):
        rows, columns = np.nonzero(mask_HW)
        if len(rows):
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_run_lengths_of_another_size_are_refused():
    with pytest.raises(ValueError, match="add up to 6 pixels, not 3 x 3"):
        mask_of([1, 3, 2], 3, 3)
