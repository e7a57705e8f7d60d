"""Scene samples: 48 x 48 images of two objects with attributes in a spatial relation, in any number."""

from workbench.data.samples.scenes.attributes import SPLITS, WORDS, zero_shot
from workbench.data.samples.scenes.drawing import draw, mask_of

__all__ = ["SPLITS", "WORDS", "draw", "mask_of", "zero_shot"]
