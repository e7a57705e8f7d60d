"""Shapes, textures and backgrounds of scenes, as fields: one float32 number per pixel."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.samples.scenes.attributes import SHAPES, TEXTURES, uniforms

SIDE_PX = 48  # of an image

Field = NDArray[np.floating[Any]]


def ramps(slope_N2: NDArray[np.float64], side_px: int = SIDE_PX) -> Field:
    """Linear fields, 0 in the middle, with slopes along x and y as the change from edge to edge, [N, H, W]."""
    axis = ((np.arange(side_px) + 0.5) / side_px - 0.5).astype(np.float32)
    slope_N211 = slope_N2.astype(np.float32)[..., None, None]
    out_NHW: Field = slope_N211[:, 0] * axis + slope_N211[:, 1] * axis[:, None]
    return out_NHW


# Signed distance functions of the shapes: negative inside, in units of the object's radius.
#
# Coordinates: `u` to the right and `v` upwards from the middle of the unrotated bounding box. Only arithmetic and
# square roots are used, which IEEE 754 defines exactly: masks are the same on every machine.

_SIN36, _COS36 = 0.5877852523, 0.8090169944


def circle(u: Field, v: Field) -> Field:
    """A disc."""
    return _norm(u, v) - 0.95


def ring(u: Field, v: Field) -> Field:
    """An annulus with a hole of half its radius."""
    distance: Field = np.abs(_norm(u, v) - 0.74) - 0.26
    return distance


def square(u: Field, v: Field) -> Field:
    """An axis-aligned square."""
    distance: Field = np.maximum(np.abs(u), np.abs(v)) - 0.84
    return distance


def triangle(u: Field, v: Field) -> Field:
    """An equilateral triangle, point up."""
    half_height = 0.83
    side = 0.75**0.5 * np.abs(u) + 0.5 * v - half_height / 2
    distance: Field = np.maximum(side, -v - half_height)
    return distance


def cross(u: Field, v: Field) -> Field:
    """A plus sign."""
    u, v = np.abs(u), np.abs(v)
    distance: Field = np.maximum(np.maximum(u, v) - 0.98, np.minimum(u, v) - 0.34)
    return distance


def star(u: Field, v: Field) -> Field:
    """A five-pointed star: the plane is folded into half a point, whose edge is one line."""
    tip, notch = 1.10, 0.52  # distances of the points and of the corners between them from the star's center
    u, v = np.abs(u), v + tip * (1 - _COS36) / 2
    for _ in range(2):
        beyond = np.maximum(_COS36 * u - _SIN36 * v, 0)
        u, v = np.abs(u - 2 * _COS36 * beyond), v + 2 * _SIN36 * beyond
    edge_u, edge_v = notch * _SIN36, notch * _COS36 - tip
    distance: Field = ((v - tip) * edge_u - u * edge_v) / (edge_u**2 + edge_v**2) ** 0.5
    return distance


def _norm(u: Field, v: Field) -> Field:
    length: Field = np.sqrt(u * u + v * v)
    return length


DISTANCES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "ring": ring,
}

# Largest extent of each shape along either axis, in radii, when rotated by up to `rendering.MAX_TILT`.
REACH = {
    "circle": 0.96,
    "square": 1.01,
    "triangle": 1.12,
    "star": 1.12,
    "cross": 1.04,
    "ring": 1.01,
}


def distances(shape_M: NDArray[np.int64], u_MPP: Field, v_MPP: Field) -> Field:
    """The signed distance of every pixel of every object's window to its own shape, in radii, [M, P, P]."""
    out_MPP = np.empty_like(u_MPP)
    for index, name in enumerate(SHAPES):
        rows = np.flatnonzero(shape_M == index)
        out_MPP[rows] = DISTANCES[name](u_MPP[rows], v_MPP[rows])
    return out_MPP


# Textures: share of the accent tone at a pixel, from 0 to 1, with edges about one pixel wide.

STRIPE_PERIOD_PX = 4.4
DOT_PERIOD_PX = 4.8
DOT_RADIUS_PX = 1.35


def _bands(x: Field, period_px: float, share: float) -> Field:
    """Bands across x that cover `share` of it: 1 inside a band, 0 outside."""
    phase = x / period_px
    from_middle_px = np.abs(phase - np.rint(phase)) * period_px
    return _soft_edge(share * period_px / 2 - from_middle_px)


def striped(x: Field, y: Field) -> Field:
    """Parallel stripes across x."""
    del y
    return _bands(x, STRIPE_PERIOD_PX, 0.42)


def dotted(x: Field, y: Field) -> Field:
    """Dots on a square lattice."""
    x, y = (axis - np.rint(axis / DOT_PERIOD_PX) * DOT_PERIOD_PX for axis in (x, y))
    return _soft_edge(DOT_RADIUS_PX - np.sqrt(x * x + y * y))


def _soft_edge(depth_px: Field) -> Field:
    """0 outside and 1 inside, with a slope one pixel wide between them."""
    share: Field = np.clip(0.5 + depth_px, 0, 1)
    return share


ACCENTS: dict[str, Callable[[Field, Field], Field]] = {
    "striped": striped,
    "dotted": dotted,
}


def accents(texture_M: NDArray[np.int64], x_MPP: Field, y_MPP: Field) -> Field:
    """The accent's share at every pixel of the objects' windows, [M, P, P]; x and y are pixels along the texture."""
    out_MPP = np.zeros_like(x_MPP)
    for index, name in enumerate(TEXTURES):
        if name in ACCENTS:
            rows = np.flatnonzero(texture_M == index)
            out_MPP[rows] = ACCENTS[name](x_MPP[rows], y_MPP[rows])
    return out_MPP


GRID = 5  # knots of the soft noise along each side
_NUM_DRAWS = 10 + GRID * GRID


def paint(canvas_N3HW: Field, seeds_N: NDArray[np.uint64]) -> None:
    """Fills the canvas with one background per seed, sRGB, 0-255: two muted colors, mixed by a field.

    The field is flat, linear or smooth noise. Low saturation: no background has the color of an object.
    """
    draws_NU, side_px = uniforms(seeds_N, _NUM_DRAWS), canvas_N3HW.shape[-1]
    kind_N = np.floor(draws_NU[:, 1] * 3)
    first_N3 = _muted(draws_NU[:, 2:6])
    second_N3 = _muted(draws_NU[:, 6:10])
    mix_NHW = np.zeros((len(seeds_N), side_px, side_px), np.float32)
    mix_NHW[kind_N == 1] = _gradients(draws_NU[kind_N == 1, 10:12], side_px)
    mix_NHW[kind_N == 2] = _clouds(draws_NU[kind_N == 2, 10:], side_px)
    step_N3 = (second_N3 - first_N3).astype(np.float32)
    np.multiply(step_N3[..., None, None], mix_NHW[:, None], out=canvas_N3HW)
    canvas_N3HW += first_N3.astype(np.float32)[..., None, None]


def _muted(draws_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light grays with a slight tint, [N, 3]."""
    gray_N = 184 + 56 * draws_N4[:, 0]
    return gray_N[:, None] + 26 * (draws_N4[:, 1:] - 0.5)


def _gradients(direction_N2: NDArray[np.float64], side_px: int) -> Field:
    """Linear ramps from 0 in one corner to 1 in another, [N, H, W]."""
    slope_N2 = 2 * direction_N2 - 1
    return 0.5 + ramps(slope_N2 / (np.abs(slope_N2).sum(1, keepdims=True) + 1e-6), side_px)


def _clouds(knots_NG: NDArray[np.float64], side_px: int) -> Field:
    """Value noise: random values on a coarse grid, smoothly interpolated, 0 to 1, [N, H, W]."""
    knots_NGG = knots_NG[:, -GRID * GRID :].astype(np.float32).reshape(-1, GRID, GRID)
    position = np.linspace(0, GRID - 1, side_px)
    cell = np.minimum(position.astype(np.int64), GRID - 2)
    part = position - cell
    ease = (part * part * (3 - 2 * part)).astype(np.float32)
    rows_NHG = knots_NGG[:, cell] + ease[None, :, None] * (knots_NGG[:, cell + 1] - knots_NGG[:, cell])
    left_NHW, right_NHW = rows_NHG[:, :, cell], rows_NHG[:, :, cell + 1]
    return left_NHW + ease * (right_NHW - left_NHW)
