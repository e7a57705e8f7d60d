"""Object masks as run lengths, and the boxes around them.

Run lengths count pixels row by row from the top left, beginning with zeros: [100, 7, 41, 7, ...] is 100 pixels
outside, 7 inside, 41 outside... They add up to height times width, and the first may be 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask_MHW: NDArray[np.bool_]) -> list[list[int]]:
    """The run lengths of each mask."""
    flat_MP = mask_MHW.reshape(len(mask_MHW), -1)
    num, area = flat_MP.shape
    ends_run_MP = np.ones((num, area + 1), np.bool_)  # one column more: every mask ends a run where the next begins
    ends_run_MP[:, 0] = flat_MP[:, 0]
    ends_run_MP[:, 1:-1] = flat_MP[:, 1:] != flat_MP[:, :-1]
    ends = np.flatnonzero(ends_run_MP)
    rows = ends // (area + 1)
    runs = np.diff(ends - rows, prepend=0).tolist()
    stops = np.cumsum(np.bincount(rows, minlength=num)).tolist()
    return [runs[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def mask_of(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [H, W] that has these run lengths; ValueError when they do not add up to its area."""
    if sum(runs) != height * width:
        raise ValueError(
            f"run lengths add up to {sum(runs)} pixels, not {height} x {width}: is this the right picture?"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def boxes(mask_MHW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The smallest box around each mask, [M, 4]: x0, y0, x1, y1 in pixels, the last two exclusive."""
    columns_MW, rows_MH = np.any(mask_MHW, axis=1), np.any(mask_MHW, axis=2)
    height, width = mask_MHW.shape[1:]
    ends = [
        columns_MW.argmax(1),
        rows_MH.argmax(1),
        width - columns_MW[:, ::-1].argmax(1),
        height - rows_MH[:, ::-1].argmax(1),
    ]
    return np.stack(ends, axis=1)
