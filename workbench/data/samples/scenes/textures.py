"""Textures: how much of the accent tone shows at a pixel, between 0 and 1, with edges about a pixel soft."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workbench.data.samples.scenes.attributes import TEXTURES
from workbench.data.samples.scenes.fields import Field

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
    x, y = (place - np.rint(place / DOT_PERIOD_PX) * DOT_PERIOD_PX for place in (x, y))
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
    """The accent's share at every pixel of the objects' windows, [M, P, P]; x and y in pixels along the texture."""
    out_MPP = np.zeros_like(x_MPP)
    for index, name in enumerate(TEXTURES):
        if name in ACCENTS:
            rows = np.flatnonzero(texture_M == index)
            out_MPP[rows] = ACCENTS[name](x_MPP[rows], y_MPP[rows])
    return out_MPP
