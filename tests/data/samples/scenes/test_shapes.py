import math

import numpy as np
import pytest

from workbench.data.samples.scenes.attributes import SHAPES
from workbench.data.samples.scenes.rendering import MAX_TILT
from workbench.data.samples.scenes.shapes import DISTANCES, REACH, distances

AXIS = np.linspace(-1.3, 1.3, 1301, dtype=np.float32)
U, V = np.meshgrid(AXIS, AXIS)

AREAS = {
    "circle": math.pi * 0.95**2,
    "ring": math.pi * (1.0**2 - 0.48**2),
    "square": 1.68**2,
    "triangle": 1.66**2 / 3**0.5,
    "cross": 2 * 1.96 * 0.68 - 0.68**2,
    "star": 5 * 1.10 * 0.52 * math.sin(math.pi / 5),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_area_inside_is_the_closed_form(name):
    inside = (DISTANCES[name](U, V) <= 0).mean() * 2.6**2
    assert inside == pytest.approx(AREAS[name], rel=0.005)


@pytest.mark.parametrize("name", SHAPES)
def test_distances_are_float32_and_change_by_no_more_than_the_step(name):
    field = DISTANCES[name](U, V)
    assert field.dtype == np.float32
    step = float(AXIS[1] - AXIS[0])
    assert abs(np.diff(field, axis=0)).max() < 1.01 * step
    assert abs(np.diff(field, axis=1)).max() < 1.01 * step


@pytest.mark.parametrize("name", SHAPES)
def test_the_reach_is_that_of_the_shape_turned_either_way(name):
    inside = DISTANCES[name](U, V) <= 0
    u, v = U[inside], V[inside]
    reach = 0.0
    for angle in np.linspace(-2 * math.atan(MAX_TILT), 2 * math.atan(MAX_TILT), 21):
        x, y = math.cos(angle) * u - math.sin(angle) * v, math.sin(angle) * u + math.cos(angle) * v
        reach = max(reach, abs(x).max(), abs(y).max())
    assert REACH[name] - 0.02 < reach <= REACH[name]


def test_each_object_of_a_batch_gets_its_own_shape():
    names = ["cross", "circle", "star"]
    shape_M = np.array([SHAPES.index(name) for name in names])
    u_MPP, v_MPP = np.stack([U[::50, ::50]] * 3), np.stack([V[::50, ::50]] * 3)
    out_MPP = distances(shape_M, u_MPP, v_MPP)
    for row, name in enumerate(names):
        assert (out_MPP[row] == DISTANCES[name](u_MPP[row], v_MPP[row])).all()
