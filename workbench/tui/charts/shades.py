"""The color maps of matrices: those of the figures, and their twins for dark themes, where 0 is dark."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3]

# Every sixteenth color of seaborn's "rocket_r" and "vlag", which importing seaborn would make wait for. A test compares
# all that lies between.
ROCKET_R = """
faebdd f8d3ba f6bb97 f6a178 f4865e f26948 ec4a3e de2e44 cb1b4f b21758 971c5b 7b1f59 611f53 481c48 30173a 180f29 03051a
"""
VLAG = """
2369bd 4a7bbc 678bbe 829cc3 9baecb b5c0d4 cfd4e0 e9e9ed faf5f4 f4e3e2 e8cac8 deb1ae d49896 ca817e c06967 b55151 a9373b
"""
DARK_VLAG = "7fb4f5 4f83c4 2f4a6c 1f2226 6e3433 c4574f f58f85"  # the same hues: blue below 0, red above


def colors(
    values_MM: NDArray[np.float64], limits: tuple[float, float], *, is_signed: bool, is_dark: bool = False
) -> Pixels:
    """RGB colors, uint8 [M, M, 3], of values between ``limits``; ``is_signed``: the limits are −size and size."""
    low, high = limits
    share_MM = np.clip((values_MM - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    anchors_A3 = _anchors(is_signed, is_dark)
    at_A = np.linspace(0.0, 1.0, len(anchors_A3))
    channels = [np.interp(share_MM, at_A, anchors_A3[:, channel]) for channel in range(3)]
    found: Pixels = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return found


@cache
def _anchors(is_signed: bool, is_dark: bool) -> NDArray[np.float64]:
    words = ((DARK_VLAG if is_dark else VLAG) if is_signed else ROCKET_R).split()
    # On a dark screen the low values of most pairs must be dark too: the same map from its other end.
    return _rgb(words[::-1] if is_dark and not is_signed else words)


def _rgb(words: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[int(word[at : at + 2], 16) for at in (0, 2, 4)] for word in words], dtype=np.float64)
