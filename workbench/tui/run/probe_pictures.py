"""The pictures of the probe pairs, and where there is room for them beside the matrices."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from workbench.runs.directory import RunDirectory
from workbench.tui.charts.half_blocks import Pixels
from workbench.tui.charts.heat import Grid

MOST_PX = 160  # of a side: no terminal shows more
LEAST_ROWS, LEAST_COLUMNS = 9, 18
MARGIN = 2  # cells left and right of the matrices together


class Placement(NamedTuple):
    """Where the pictures stand, and how many rows or columns they have there; ``where`` is empty for nowhere."""

    where: Literal["", "below", "beside"]
    size: int = 0


def read_pictures(run: RunDirectory, captions: Sequence[str]) -> list[Pixels]:
    """The pictures that the captions are of, uint8 [H, W, C] each. It may take seconds.

    Raises:
        ValueError: the run's validation data are not there any more, have other captions or are damaged.
        OSError: they cannot be read.
    """
    from workbench.data.decode import decode_image
    from workbench.data.probe_pictures import probe_pictures

    found = []
    for data in probe_pictures(run, captions):
        image = decode_image(data)
        image.thumbnail((MOST_PX, MOST_PX))
        found.append(np.asarray(image))
    return found


def placed(width: int, height: int, grid: Grid, *, are_wanted: bool | None) -> Placement:
    """Where the pictures go in a pane of ``width`` × ``height`` cells whose matrices take what ``grid`` says.

    Args:
        are_wanted: whether they were asked for; None shows them where the matrices leave enough room.
    """
    if are_wanted is False:
        return Placement("")
    left_below, left_beside = height - grid.rows, width - grid.columns - MARGIN
    if left_below >= LEAST_ROWS:
        return Placement("below", left_below)
    if left_beside >= LEAST_COLUMNS:
        return Placement("beside", left_beside)
    return Placement("beside", max(LEAST_COLUMNS, min(height, width // 3))) if are_wanted else Placement("")
