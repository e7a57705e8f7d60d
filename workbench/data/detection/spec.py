"""Opens the detection data of a run: the SPECs in ``[dense]`` -> the images to train on, and those to measure on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from workbench.config.dense import DenseConfig
from workbench.data.detection.dataset import DetectionDataset, Objects, check_installed
from workbench.data.sources.coco import coco_paths
from workbench.errors import set_by, unknown

COCO_DETECTION = "coco-detection:"
SCENES_DENSE = "samples:scenes-dense"
FORMS = f"{SCENES_DENSE}[/SPLIT], or {COCO_DETECTION}FILE.json@DIR"
HELD_OUT_EVERY = 10  # of the images of data without a validation set of their own
DENSE_SPLITS = ("train", "teacher", "validation", "test")


class DetectionData(NamedTuple):
    """Images to train a detector on, and others to measure it on, with the same categories."""

    train: DetectionDataset
    held_out: DetectionDataset


class Subset(DetectionDataset):
    """Some images of another dataset."""

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int], name: str) -> None:
        self._dataset, self._indices = dataset, np.array(indices, np.int64)
        self.name = f"{dataset.name}, {name}"
        self.fingerprint = f"{dataset.fingerprint} {name}"
        self.categories, self.unseen, self.templates = dataset.categories, dataset.unseen, dataset.templates
        self.reading = dataset.reading
        self.has_masks, self.areas_px = dataset.has_masks, dataset.areas_px

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> Image.Image:
        return self._dataset.image(int(self._indices[index]))

    def size(self, index: int) -> tuple[int, int]:
        return self._dataset.size(int(self._indices[index]))

    def objects(self, index: int) -> Objects:
        return self._dataset.objects(int(self._indices[index]))


def check_detection(config: DenseConfig) -> None:
    """Check that the data exist and what they need is installed, without reading them.

    Raises:
        ValueError: in one line with the setting to change.
    """
    check_installed()
    for setting, spec in (("dense.data", config.data), ("dense.validation", config.validation)):
        if spec != "auto":
            with set_by(setting):
                _check_spec(spec)


def _check_spec(spec: str) -> None:
    if spec.startswith(COCO_DETECTION):
        coco_paths(spec.removeprefix(COCO_DETECTION))
        return
    name, _, split = spec.removeprefix("samples:").partition("/")
    if not spec.startswith("samples:") or name != SCENES_DENSE.removeprefix("samples:"):
        raise ValueError(f"'{spec}' has no boxes: detection data are {FORMS}")
    if split and split not in DENSE_SPLITS:
        raise unknown("split of the dense scenes", split, DENSE_SPLITS)


def open_detection(config: DenseConfig) -> DetectionData:
    """The detection data of a run.

    Raises:
        ValueError: as :func:`check_detection`, for unusable data, or if the two have different categories.
    """
    check_detection(config)
    with set_by("dense.data"):
        train = _open(config, config.data, "train", config.num_images)
    if config.validation != "auto" or config.data.startswith("samples:"):
        spec = SCENES_DENSE if config.validation == "auto" else config.validation
        with set_by("dense.validation"):
            held_out = _open(config, spec, "validation", config.num_validation_images)
            if held_out.categories != train.categories:
                raise ValueError(f"{held_out.name} has other categories than {train.name}")
        return DetectionData(train, held_out)
    if len(train) < 2:
        raise ValueError(f"{train.name} has one image: name others to measure on with --set dense.validation=SPEC")
    every = range(len(train))
    return DetectionData(
        Subset(train, [row for row in every if row % HELD_OUT_EVERY], f"nine of every {HELD_OUT_EVERY}"),
        Subset(train, [row for row in every if not row % HELD_OUT_EVERY], f"one of every {HELD_OUT_EVERY}"),
    )


def _open(config: DenseConfig, spec: str, role: str, num_images: int) -> DetectionDataset:
    if spec.startswith(COCO_DETECTION):
        from workbench.data.detection.coco import CocoDetection

        dataset = CocoDetection(spec.removeprefix(COCO_DETECTION), num_images, with_masks=not config.boxes_only)
        if missing := [name for name in config.unseen if name not in dataset.categories]:
            raise unknown(f"category of {dataset.name} in dense.unseen", missing[0], dataset.categories)
        dataset.unseen = frozenset(dataset.categories.index(name) for name in config.unseen)
        return dataset
    from workbench.data.detection.scenes import DenseScenes

    return DenseScenes(spec.partition("/")[2] or role, num_images, open_vocabulary=config.open_vocabulary)
