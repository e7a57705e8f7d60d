"""Backgrounds: two muted colours, mixed by a flat, a linear or a softly random field.

Muted means little saturation: no background has the colour of an object.
"""

import numpy as np
from numpy.typing import NDArray

from workbench.data.samples.scenes.draws import uniforms
from workbench.data.samples.scenes.fields import SIDE_PX, Field, ramps

GRID = 5  # knots of the soft noise along each side
_NUM_DRAWS = 10 + GRID * GRID


def paint(canvas_N3HW: Field, seeds_N: NDArray[np.uint64]) -> None:
    """Fills the canvas with one background for each seed, sRGB on a scale of 0 to 255."""
    draws_NU = uniforms(seeds_N, _NUM_DRAWS)
    kind_N = np.floor(draws_NU[:, 1] * 3)
    first_N3 = _muted(draws_NU[:, 2:6])
    second_N3 = _muted(draws_NU[:, 6:10])
    mix_NHW = np.zeros((len(seeds_N), SIDE_PX, SIDE_PX), np.float32)
    mix_NHW[kind_N == 1] = _gradients(draws_NU[kind_N == 1, 10:12])
    mix_NHW[kind_N == 2] = _clouds(draws_NU[kind_N == 2, 10:])
    step_N3 = (second_N3 - first_N3).astype(np.float32)
    np.multiply(step_N3[..., None, None], mix_NHW[:, None], out=canvas_N3HW)
    canvas_N3HW += first_N3.astype(np.float32)[..., None, None]


def _muted(draws_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pale greys with a faint tint, [N, 3]."""
    grey_N = 184 + 56 * draws_N4[:, 0]
    return grey_N[:, None] + 26 * (draws_N4[:, 1:] - 0.5)


def _gradients(direction_N2: NDArray[np.float64]) -> Field:
    """Linear ramps from 0 in one corner to 1 in another, [N, H, W]."""
    slope_N2 = 2 * direction_N2 - 1
    return 0.5 + ramps(slope_N2 / (np.abs(slope_N2).sum(1, keepdims=True) + 1e-6))


def _clouds(knots_NG: NDArray[np.float64]) -> Field:
    """Smooth noise through random knots on a coarse grid, 0 to 1, [N, H, W]."""
    knots_NGG = knots_NG[:, -GRID * GRID :].astype(np.float32).reshape(-1, GRID, GRID)
    place = np.linspace(0, GRID - 1, SIDE_PX)
    cell = np.minimum(place.astype(np.int64), GRID - 2)
    part = place - cell
    ease = (part * part * (3 - 2 * part)).astype(np.float32)
    rows_NHG = knots_NGG[:, cell] + ease[None, :, None] * (knots_NGG[:, cell + 1] - knots_NGG[:, cell])
    left_NHW, right_NHW = rows_NHG[:, :, cell], rows_NHG[:, :, cell + 1]
    return left_NHW + ease * (right_NHW - left_NHW)
