"""Which two objects a scene shows and where: attributes, relation, positions, sizes and tilts of a batch.

Legend: N pictures, 2 the first and the second object, the last 2 of a centre its x and y.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.data.samples.scenes.attributes import RADIUS_PX, SHAPES, SIZES, combinations
from workbench.data.samples.scenes.draws import uniforms
from workbench.data.samples.scenes.fields import SIDE_PX
from workbench.data.samples.scenes.shapes import REACH

MARGIN_PX = 0.6  # between an object and the picture's edge
GAP_PX = 1.0  # between two objects, at least, along the relation's axis
WANDER_PX = 2.0  # of a centre from the middle of its half, at most, either way
MAX_TILT = 0.11  # tangent of half the largest tilt: 12.6 degrees
SIZE_JITTER = 0.03

RELATIONS = ("left of", "right of", "above", "below")

_REACH = np.array([REACH[shape] for shape in SHAPES])
_RADIUS_PX = np.array(RADIUS_PX)
_NUM_DRAWS = 13

Columns = Iterator[NDArray[np.float64]]


@dataclass(frozen=True)
class Layout:
    """A batch of scenes.

    Attributes are indices into the names in `attributes`, `relation_N` into RELATIONS: how the first object lies
    to the second. Centres are in pixels from the top left corner, radii in pixels.
    """

    size_N2: NDArray[np.int64]
    colour_N2: NDArray[np.int64]
    texture_N2: NDArray[np.int64]
    shape_N2: NDArray[np.int64]
    relation_N: NDArray[np.int64]
    centre_N22: NDArray[np.float64]
    radius_N2: NDArray[np.float64]
    tilt_N2: NDArray[np.float64]  # tangent of half the angle


def lay_out(split: str, seeds_N: NDArray[np.uint64]) -> Layout:
    """The scenes of these seeds: two different objects that do not touch.

    The first is of the split's combinations, the second of those in training: a held-out picture shows one combination
    that no training picture did.
    """
    columns = iter(uniforms(seeds_N, _NUM_DRAWS).T)
    first_N3, second_N3 = (_choose(columns, combinations(of)) for of in (split, "train"))
    triples_N23 = np.stack([first_N3, second_N3], axis=1)
    size_N2 = np.floor(_pair(columns) * len(SIZES)).astype(np.int64)
    identical_N = (triples_N23[:, 0] == triples_N23[:, 1]).all(-1) & (size_N2[:, 0] == size_N2[:, 1])
    size_N2[:, 1] = (size_N2[:, 1] + identical_N) % len(SIZES)

    shape_N2 = triples_N23[..., 2]
    radius_N2 = _RADIUS_PX[size_N2] * (1 + SIZE_JITTER * (2 * _pair(columns) - 1))
    tilt_N2 = MAX_TILT * (2 * _pair(columns) - 1)
    relation_N = np.floor(next(columns) * len(RELATIONS)).astype(np.int64)
    centre_N22 = _place(columns, relation_N, _REACH[shape_N2] * radius_N2)
    return Layout(
        size_N2=size_N2,
        colour_N2=triples_N23[..., 0],
        texture_N2=triples_N23[..., 1],
        shape_N2=shape_N2,
        relation_N=relation_N,
        centre_N22=centre_N22,
        radius_N2=radius_N2,
        tilt_N2=tilt_N2,
    )


def _pair(columns: Columns) -> NDArray[np.float64]:
    """The next number for each of the two objects, [N, 2]."""
    return np.stack([next(columns), next(columns)], axis=1)


def _choose(columns: Columns, triples_K3: NDArray[np.int64]) -> NDArray[np.int64]:
    """One of the combinations for each picture, [N, 3]."""
    return triples_K3[np.floor(next(columns) * len(triples_K3)).astype(np.int64)]


def _place(columns: Columns, relation_N: NDArray[np.int64], reach_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centres, [N, 2, 2].

    Each object lies near the middle of its half of the picture, and wholly within it: a student of a few hundred
    thousand weights and a thousand pictures should have a chance to learn what a relation is.
    """
    backwards_N = relation_N % 2 == 1  # right of, below: the first object lies in the far half
    sign_N2 = np.where(backwards_N[:, None], [1.0, -1.0], [-1.0, 1.0])
    room_N2 = (SIDE_PX / 2 - GAP_PX / 2 - MARGIN_PX) / 2 - reach_N2
    middle_px = SIDE_PX / 2
    from_middle_N2 = (middle_px + GAP_PX / 2 - MARGIN_PX) / 2 + np.minimum(WANDER_PX, room_N2) * (
        2 * _pair(columns) - 1
    )
    along_N2 = middle_px + sign_N2 * from_middle_N2
    across_N2 = middle_px + WANDER_PX * (2 * _pair(columns) - 1)

    vertical_N = (relation_N >= 2)[:, None]
    x_N2, y_N2 = np.where(vertical_N, across_N2, along_N2), np.where(vertical_N, along_N2, across_N2)
    return np.stack([x_N2, y_N2], axis=-1)
