"""Scenes: 48 x 48 pictures of two objects with attributes in a spatial relation, drawn in any number."""

from workbench.data.samples.scenes.attributes import SPLITS
from workbench.data.samples.scenes.captions import WORDS
from workbench.data.samples.scenes.drawing import draw
from workbench.data.samples.scenes.masks import mask_of
from workbench.data.samples.scenes.zero_shot import zero_shot, zero_shot_class

__all__ = ["SPLITS", "WORDS", "draw", "mask_of", "zero_shot", "zero_shot_class"]
