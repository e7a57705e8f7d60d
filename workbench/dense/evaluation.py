"""COCO's metrics: average precision of boxes and masks, computed by pycocotools, some images at a time.

Detections of an image are matched with its objects and dropped; what remains of each image is which of them were
matched, so that memory holds no masks of earlier images.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.detection.dataset import Objects, RunLengths

MOST_DETECTIONS = (1, 10, 100)  # of an image; metrics count the last
KINDS = {"box": "bbox", "mask": "segm"}
# Metric name: IoU threshold (None for the mean over 0.5 to 0.95) and area.
METRICS = {
    "ap": (None, "all"),
    "ap50": (0.5, "all"),
    "ap75": (0.75, "all"),
    "ap_small": (None, "small"),
    "ap_medium": (None, "medium"),
    "ap_large": (None, "large"),
}
AREAS = ("all", "small", "medium", "large")


def metric_names(*, with_masks: bool = True) -> frozenset[str]:
    """Names of the metrics of a detector, whether or not the images have objects of every size."""
    return frozenset(f"{kind}_{name}" for kind in KINDS if kind == "box" or with_masks for name in METRICS)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image.

    Attributes:
        boxes_M4: x0, y0, x1, y1 in pixels.
        labels_M: int64, index into the categories.
        scores_M: in [0, 1].
        masks: of each detection; empty if only boxes are detected.
    """

    boxes_M4: NDArray[np.float64]
    labels_M: NDArray[np.int64]
    scores_M: NDArray[np.float64]
    masks: Sequence[RunLengths] = ()


@dataclass
class CocoMetrics:
    """Collects the matches of images, then computes metrics.

    Args:
        num_categories: labels are below it.
        areas_px: mask areas between small and medium, and medium and large objects.
        with_masks: measure masks, too.
    """

    num_categories: int
    areas_px: tuple[float, float]
    with_masks: bool = True
    num_images: int = 0
    _matched: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def add(self, pairs: Sequence[tuple[tuple[int, int], Objects, Detections]]) -> None:
        """Match the detections of some images; each with its height and width, and its objects."""
        numbers = list(range(self.num_images, self.num_images + len(pairs)))
        self.num_images += len(pairs)
        truth, found = self._documents(numbers, pairs)
        for kind in self._kinds():
            evaluation = self._evaluation(kind, numbers, truth, found)
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
                evaluation.evaluate()
            # Category, area, image: as pycocotools lists them.
            shape = (self.num_categories, len(AREAS), len(numbers))
            self._matched.setdefault(kind, []).append(_objects_array(evaluation.evalImgs).reshape(shape))

    def compute(self, categories: Sequence[int] | None = None) -> dict[str, float]:
        """``box_ap``, ``mask_ap50`` and so on in [0, 1]; without metrics of areas that have no object.

        Args:
            categories: of which the mean is taken; all by default.
        """
        metrics: dict[str, float] = {}
        for kind, parts in self._matched.items():
            evaluation = self._evaluation(kind, range(self.num_images), *_nothing(self.num_images, self.num_categories))
            evaluation.evalImgs = list(np.concatenate(parts, axis=2).reshape(-1))
            evaluation._paramsEval = deepcopy(evaluation.params)
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation.accumulate()
            metrics |= _metrics(kind, evaluation, categories)
        return metrics

    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if kind == "box" or self.with_masks]

    def _evaluation(self, kind: str, images: Sequence[int], truth: Mapping[str, Any], found: list[Any]) -> Any:
        """pycocotools' evaluation of these images, with this data set's areas."""
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            gt = _coco(truth)
            evaluation = COCOeval(gt, gt.loadRes(found) if found else _coco({**truth, "annotations": []}), KINDS[kind])
        small, medium = self.areas_px
        limits = ((0.0, 1e10), (0.0, small), (small, medium), (medium, 1e10))
        evaluation.params.imgIds, evaluation.params.catIds = list(images), list(range(self.num_categories))
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(pair) for pair in limits], list(AREAS)
        evaluation.params.maxDets = list(MOST_DETECTIONS)
        return evaluation

    def _documents(
        self, numbers: Sequence[int], pairs: Sequence[tuple[tuple[int, int], Objects, Detections]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The images as COCO's annotations, and their detections as COCO's results."""
        truth, found = _nothing(0, self.num_categories)[0], []
        for number, ((height, width), objects, detections) in zip(numbers, pairs, strict=True):
            truth["images"].append({"id": number, "height": height, "width": width})
            for row in range(len(objects)):
                masks = {"segmentation": objects.masks[row]} if self.with_masks else {}
                annotation = {
                    "id": len(truth["annotations"]) + 1,  # pycocotools takes an id of 0 for no match
                    "image_id": number,
                    "category_id": int(objects.labels_M[row]),
                    "bbox": _xywh(objects.boxes_M4[row]),
                    "area": float(objects.areas_M[row]),
                    "iscrowd": int(objects.is_crowd_M[row]),
                }
                truth["annotations"].append(annotation | masks)
            for row in range(len(detections.labels_M)):
                masks = {"segmentation": detections.masks[row]} if self.with_masks else {}
                result = {
                    "image_id": number,
                    "category_id": int(detections.labels_M[row]),
                    "bbox": _xywh(detections.boxes_M4[row]),
                    "score": float(detections.scores_M[row]),
                }
                found.append(result | masks)
        return truth, found


def _metrics(kind: str, evaluation: Any, categories: Sequence[int] | None) -> dict[str, float]:
    """The means of COCO over thresholds, recalls and categories; those without any object are left out."""
    # Thresholds, recalls, categories, areas, numbers of detections; -1 where a category has no object.
    precision = evaluation.eval["precision"][..., -1]
    thresholds = evaluation.params.iouThrs
    metrics = {}
    for name, (threshold, area) in METRICS.items():
        part = precision[:, :, :, AREAS.index(area)]
        if threshold is not None:
            part = part[np.isclose(thresholds, threshold)]
        if categories is not None:
            part = part[:, :, list(categories)]
        if (known := part[part > -1]).size:
            metrics[f"{kind}_{name}"] = float(known.mean())
    return metrics


def _coco(document: Mapping[str, Any]) -> Any:
    """pycocotools' index of a document, which it otherwise reads from a file."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dict(document)
    coco.createIndex()
    return coco


def _nothing(num_images: int, num_categories: int) -> tuple[dict[str, Any], list[Any]]:
    images = [{"id": number, "height": 1, "width": 1} for number in range(num_images)]
    categories = [{"id": number, "name": str(number)} for number in range(num_categories)]
    return {"info": {}, "images": images, "annotations": [], "categories": categories}, []


def _xywh(box: NDArray[np.float64]) -> list[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def _objects_array(items: Sequence[Any]) -> NDArray[np.object_]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
