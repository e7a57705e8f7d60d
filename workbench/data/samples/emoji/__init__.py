"""Emoji: real artwork (the Noto Color Emoji font) with real names (Unicode's CLDR), split by concept."""

from workbench.data.samples.emoji.drawing import draw
from workbench.data.samples.emoji.vocabulary import words

__all__ = ["draw", "words"]
