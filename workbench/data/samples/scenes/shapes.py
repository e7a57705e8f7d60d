"""Signed distance functions of the shapes: negative inside, in units of the object's radius.

Coordinates: `u` to the right and `v` upwards from the middle of the unrotated bounding box. Only arithmetic and
square roots are used, which IEEE 754 fixes to the last bit: masks are the same on every machine.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workbench.data.samples.scenes.attributes import SHAPES
from workbench.data.samples.scenes.fields import Field

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
    tip, notch = 1.10, 0.52  # distances of the points and of the corners between them from the star's centre
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

# How far each shape reaches from its middle along either axis when turned by up to layout.MAX_TILT, in radii.
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
