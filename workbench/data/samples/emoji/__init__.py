"""Emoji samples: artwork of the Noto Color Emoji font, names of Unicode's CLDR, splits by concept."""

from workbench.data.samples.emoji.concepts import words
from workbench.data.samples.emoji.drawing import draw

__all__ = ["draw", "words"]
