import numpy as np
import pytest

from workbench.data.samples.scenes.attributes import TEXTURES
from workbench.data.samples.scenes.shapes import DOT_PERIOD_PX, DOT_RADIUS_PX, STRIPE_PERIOD_PX, accents

AXIS = np.arange(0, 48 * 4.4, 0.1, dtype=np.float32)[:2112]
X, Y = np.meshgrid(AXIS[:880], AXIS[:880])
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
