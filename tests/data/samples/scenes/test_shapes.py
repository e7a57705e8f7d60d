import math

import numpy as np
import pytest

from workbench.data.samples.scenes.attributes import SHAPES, TEXTURES
from workbench.data.samples.scenes.rendering import MAX_TILT
from workbench.data.samples.scenes.shapes import (
    DISTANCES,
    DOT_PERIOD_PX,
    DOT_RADIUS_PX,
    REACH,
    STRIPE_PERIOD_PX,
    accents,
    distances,
)

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
def test_the_reach_covers_the_rotated_shape(name):
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


TEXTURE_AXIS = np.arange(0, 48 * 4.4, 0.1, dtype=np.float32)[:2112]
X, Y = np.meshgrid(TEXTURE_AXIS[:880], TEXTURE_AXIS[:880])
SHARES = {"plain": 0.0, "striped": 0.42, "dotted": np.pi * (DOT_RADIUS_PX / DOT_PERIOD_PX) ** 2}


@pytest.mark.parametrize("name", TEXTURES)
def test_the_accent_covers_its_share(name):
    share = accents(np.array([TEXTURES.index(name)]), X[None], Y[None])
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.mean() == pytest.approx(SHARES[name], abs=0.03)


@pytest.mark.parametrize(("name", "period_px"), [("striped", STRIPE_PERIOD_PX), ("dotted", DOT_PERIOD_PX)])
def test_textures_repeat_after_their_period(name, period_px):
    kind = np.array([TEXTURES.index(name)])
    here = accents(kind, X[None, :200, :200], Y[None, :200, :200])
    there = accents(kind, X[None, :200, :200] + period_px, Y[None, :200, :200])
    assert np.allclose(here, there, atol=2e-4)
