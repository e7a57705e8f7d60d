"""Pixels -> characters: two pixels above one another in every one.

Shape letters: H rows and W columns of pixels, C channels red, green and blue.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

HALF = "▀"
Pixels = NDArray[np.uint8]
Shade = tuple[int, int, int]


def half_blocks(pixels_HWC: Pixels, base: Style) -> list[list[Segment]]:
    """A row of characters for every two rows of pixels; under an odd last one is the background of ``base``."""
    above, below = pixels_HWC[::2].tolist(), pixels_HWC[1::2].tolist()
    rows = [
        [Segment(HALF, _style(tuple(upper), tuple(lower))) for upper, lower in zip(*both, strict=True)]
        for both in zip(above, below, strict=False)
    ]
    if len(pixels_HWC) % 2:
        rows.append([Segment(HALF, base + Style(color=Color.from_rgb(*shade))) for shade in above[-1]])
    return rows


@lru_cache(maxsize=8192)
def _style(above: Shade, below: Shade) -> Style:
    return Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
