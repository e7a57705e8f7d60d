"""``samples:scenes-dense[/SPLIT]``: dense scenes, drawn when they are read, in any number."""

import hashlib
from functools import lru_cache

import numpy as np
from PIL import Image

from workbench.data.detection.dataset import COCO_AREAS_PX, DetectionDataset, Objects, encode_masks
from workbench.data.samples.scenes.attributes import SHAPES, SPLITS, TEMPLATES, combinations
from workbench.data.samples.scenes.dense import SIDE_PX, DenseScene, combination_name, draw_dense
from workbench.errors import unknown

VERSION = 1  # raise it when the same scene would be drawn or annotated differently
DEFAULT_IMAGES = {"train": 500, "teacher": 500, "validation": 200, "test": 200}
COCO_SIDE_PX = 640  # the usual longer side of COCO's images, by which its area limits are scaled


class DenseScenes(DetectionDataset):
    """The first ``num_images`` dense scenes of a split.

    Classes are the six shapes. ``open_vocabulary`` makes every combination of color, texture and shape a class, of
    which those of other splits than training are unseen.
    """

    def __init__(self, split: str, num_images: int = 0, *, open_vocabulary: bool = False) -> None:
        if split not in SPLITS:
            raise unknown("split of the dense scenes", split, SPLITS)
        self._split, self._num = split, num_images or DEFAULT_IMAGES[split]
        self._is_open = open_vocabulary
        self.name = f"samples:scenes-dense/{split}, first {self._num:,}"
        identity = f"dense scenes {VERSION}, {split}, {self._num}, {open_vocabulary}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        scale = (SIDE_PX / COCO_SIDE_PX) ** 2
        self.areas_px = (scale * COCO_AREAS_PX[0], scale * COCO_AREAS_PX[1])
        if open_vocabulary:
            triples = [tuple(triple) for of in ("train", "validation", "test") for triple in combinations(of).tolist()]
            self._classes = {triple: number for number, triple in enumerate(triples)}
            self.categories = tuple(combination_name(*triple) for triple in triples)
            self.templates = TEMPLATES
            self.unseen = frozenset(range(len(combinations("train")), len(triples)))
        else:
            self.categories = SHAPES
        self._scene = lru_cache(maxsize=16)(self._draw)  # an image and its objects are read one after the other

    def __len__(self) -> int:
        return self._num

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._scene(index).image_HW3)

    def size(self, index: int) -> tuple[int, int]:  # noqa: ARG002  # all scenes have one size
        return SIDE_PX, SIDE_PX

    def objects(self, index: int) -> Objects:
        scene = self._scene(index)
        return Objects(
            boxes_M4=scene.boxes_K4.astype(np.float64),
            labels_M=np.array([self._label(triple) for triple in scene.triples_K3.tolist()], np.int64),
            areas_M=scene.masks_KHW.sum((1, 2)).astype(np.float64),
            is_crowd_M=np.zeros(len(scene.triples_K3), np.bool_),
            masks=encode_masks(scene.masks_KHW),
        )

    def _draw(self, index: int) -> DenseScene:
        return draw_dense(self._split, index)

    def _label(self, triple: list[int]) -> int:
        return self._classes[tuple(triple)] if self._is_open else triple[-1]
