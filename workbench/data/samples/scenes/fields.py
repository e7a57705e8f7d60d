"""Fields: one number for every pixel, float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 48  # of a picture

Field = NDArray[np.floating[Any]]


def ramps(slope_N2: NDArray[np.float64]) -> Field:
    """Linear fields, 0 in the middle, that rise by `slope` from edge to edge, along x and along y, [N, H, W]."""
    place = ((np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5).astype(np.float32)
    slope_N211 = slope_N2.astype(np.float32)[..., None, None]
    out_NHW: Field = slope_N211[:, 0] * place + slope_N211[:, 1] * place[:, None]
    return out_NHW
