"""Colors that can be read on a background, by the contrast ratio of the Web Content Accessibility Guidelines."""

from functools import lru_cache

from textual.color import BLACK, WHITE, Color

LEAST = 4.5  # the guidelines' ratio for text; letters and names of curves are text
STEP = 0.05


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two colors, from 1 (equal) to 21 (black and white)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    """The relative luminance, from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@lru_cache(maxsize=1024)
def readable(color: str, background: str) -> str:
    """The color as hex, darker or lighter by as little as gives enough contrast to the background.

    The figures' colors are made for thick lines on white paper.
    """
    own, behind = Color.parse(color), Color.parse(background)
    towards = BLACK if _luminance(behind) > 0.18 else WHITE
    share = 0.0
    while contrast(shown := own.blend(towards, share), behind) < LEAST and share < 1:
        share += STEP
    return shown.hex
