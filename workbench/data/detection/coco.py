"""``coco-detection:FILE.json@DIR``: boxes and masks from a COCO instance file, images from a folder.

Such as ``instances_val2017.json``. Masks are polygons or run lengths, plain or compressed. Regions of many objects
(``iscrowd``) are kept and marked. Annotations that cannot be used are left out and counted; too many are refused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workbench.data.captions import cleaned
from workbench.data.detection.dataset import DetectionDataset, Objects, RunLengths
from workbench.data.sources.coco import coco_paths, entry_field, read_lists
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.unusable import BadImageCount, ImageError, reading_of

EXAMPLE = "coco-detection:instances_val2017.json@val2017"
REMEDY = "give a COCO instance file such as instances_val2017.json"
REPAIR = "repair or remove them"
SLACK_PX = 1.0  # by which a box may leave its image, through rounding
Row = tuple[list[float], int, float, bool, RunLengths | None]  # box, label, area, whether it is a crowd, mask


@dataclass(frozen=True)
class _Image:
    """An image as the file lists it."""

    name: str
    height: int
    width: int
    rows: list[Row]


class CocoDetection(DetectionDataset):
    """The images of a COCO instance file that have a usable annotation, in the order of ``images``.

    Args:
        spec: ``FILE.json@DIR``: the file, and the folder to which its ``file_name`` are relative.
        num_images: use only the first so many; 0 for all.
        with_masks: refuse annotations without a mask.

    Raises:
        ValueError: no such file or folder, another format, no annotations, no masks, or too many that are unusable.
    """

    def __init__(self, spec: str, num_images: int = 0, *, with_masks: bool = True) -> None:
        path, folder = coco_paths(spec)
        document = read_lists(path, ["images", "annotations", "categories"], REMEDY)
        if not document["annotations"]:
            raise ValueError(f"'{path}' has no annotations: {REMEDY}")
        self.has_masks = with_masks
        names = _categories(document["categories"], path)
        self.categories = tuple(names[number] for number in sorted(names))
        images = _images(document["images"], path)
        tally = BadImageCount(f"annotations of '{path}'", REPAIR)
        _fill(images, document["annotations"], {number: row for row, number in enumerate(sorted(names))}, tally, self)
        self._images = [image for image in images.values() if image.rows]
        num_empty = len(images) - len(self._images)
        tally.check()
        self._images = self._images[: num_images or None]
        self.reading = reading_of(tally, f"left out {num_empty:,} images of '{path}' without objects" * bool(num_empty))
        listed = ImageList()
        for image in self._images:
            listed.add(image.name, image.name)
        self._files = ImageFiles(listed, base_folder(listed, (folder,), f"'{path}'"), path.name)
        identity = (self.categories, [(image.height, image.width, image.rows) for image in self._images])
        self.fingerprint = sha256(f"{self._files.fingerprint} {identity!r}".encode()).hexdigest()
        self.name = f"coco-detection:{spec}" + (f", first {num_images:,}" if num_images else "")

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image.Image:
        image, listed = self._files[index].image, self._images[index]
        if image.size != (listed.width, listed.height):
            raise ImageError(
                "cut short or damaged",
                f"{listed.name!r} has {image.height} x {image.width} pixels, and its annotations are for "
                f"{listed.height} x {listed.width}",
            )
        return image

    def size(self, index: int) -> tuple[int, int]:
        return self._images[index].height, self._images[index].width

    def objects(self, index: int) -> Objects:
        boxes, labels, areas, crowds, masks = zip(*self._images[index].rows, strict=True)
        return Objects(
            boxes_M4=np.array(boxes, np.float64),
            labels_M=np.array(labels, np.int64),
            areas_M=np.array(areas, np.float64),
            is_crowd_M=np.array(crowds, np.bool_),
            masks=masks if self.has_masks else (),
        )


def _categories(entries: list[Any], path: Path) -> dict[int, str]:
    """The names of the categories by id."""
    names: dict[int, str] = {}
    for entry in entries:
        number, name = (entry_field(entry, field, "category", path, REMEDY) for field in ("id", "name"))
        if not isinstance(number, int) or number in names:
            raise ValueError(f"'{path}': category {number!r} is no integer, or is there twice: {REMEDY}")
        names[number] = str(name)
    if not names:
        raise ValueError(f"'{path}' has no categories: {REMEDY}")
    return names


def _images(entries: list[Any], path: Path) -> dict[Any, _Image]:
    """The images by id."""
    images: dict[Any, _Image] = {}
    names: set[str] = set()
    for entry in entries:
        number, name, height, width = (
            entry_field(entry, field, "image", path, REMEDY) for field in ("id", "file_name", "height", "width")
        )
        if number in images or name in names:
            raise ValueError(
                f"'{path}' lists the image {number!r}, {name!r}, twice: give each image its own id and file"
            )
        if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
            raise ValueError(f"'{path}': image {number!r} has height {height!r} and width {width!r}: {REMEDY}")
        names.add(str(name))
        images[number] = _Image(cleaned(str(name)), height, width, [])
    return images


def _fill(
    images: Mapping[Any, _Image],
    annotations: list[Any],
    labels: Mapping[int, int],
    tally: BadImageCount,
    dataset: CocoDetection,
) -> None:
    """Give each image its objects; count annotations that cannot be used.

    Raises:
        ValueError: no annotation has a mask although masks are wanted.
    """
    if dataset.has_masks and not any(isinstance(one, dict) and one.get("segmentation") for one in annotations):
        raise ValueError(
            f"{tally.things} have no masks ('segmentation'): detect boxes alone with --boxes-only, or {REMEDY}"
        )
    for position, annotation in enumerate(annotations):
        try:
            number, row = _row(annotation, images, labels, dataset.has_masks)
        except _UnusableError as error:
            tally.add(1, [(error.args[0], f"annotation {_named(annotation, position)}: {error.args[1]}")])
            continue
        tally.add(1, ())
        images[number].rows.append(row)


class _UnusableError(Exception):
    """Why one annotation cannot be used: the kind, and the details."""


def _named(annotation: Any, position: int) -> str:
    return repr(annotation.get("id", position)) if isinstance(annotation, dict) else f"number {position}"


def _row(annotation: Any, images: Mapping[Any, _Image], labels: Mapping[int, int], with_masks: bool) -> tuple[Any, Row]:
    """The image's id and the object of an annotation."""
    if not isinstance(annotation, dict):
        raise _UnusableError("no object", f"it is {annotation!r:.40}")
    number, category = annotation.get("image_id"), annotation.get("category_id")
    if not isinstance(number, str | int) or number not in images:
        raise _UnusableError("of unlisted images", f"no image has the id {number!r:.40}")
    if not isinstance(category, int) or category not in labels:
        raise _UnusableError("of unlisted categories", f"no category has the id {category!r:.40}")
    image = images[number]
    box = _box(annotation.get("bbox"), image)
    mask = _mask(annotation.get("segmentation"), image) if with_masks else None
    area = annotation.get("area")
    if not isinstance(area, int | float) or not math.isfinite(area) or area <= 0:
        area = (box[2] - box[0]) * (box[3] - box[1])
    return number, (box, labels[category], float(area), bool(annotation.get("iscrowd")), mask)


def _box(value: Any, image: _Image) -> list[float]:
    """x0, y0, x1, y1 of COCO's x, y, width, height."""
    if not isinstance(value, list) or len(value) != 4 or not all(_is_finite(number) for number in value):
        raise _UnusableError("without a box", f"its bbox is {value!r:.60}, not four finite numbers")
    x, y, width, height = map(float, value)
    if width <= 0 or height <= 0:
        raise _UnusableError("with an empty box", f"its bbox is {value}")
    is_inside = min(x, y) >= -SLACK_PX and x + width <= image.width + SLACK_PX and y + height <= image.height + SLACK_PX
    if not is_inside:
        raise _UnusableError(
            "with a box outside of its image", f"bbox {value} in {image.width} x {image.height} pixels"
        )
    return [max(0.0, x), max(0.0, y), min(float(image.width), x + width), min(float(image.height), y + height)]


def _mask(value: Any, image: _Image) -> RunLengths:
    """The compressed run lengths of polygons, or of run lengths."""
    from pycocotools import mask

    size = [image.height, image.width]
    if isinstance(value, list) and value:
        if not all(_is_polygon(polygon, image) for polygon in value):
            raise _UnusableError("with a broken mask", "a polygon is not at least three points in its image")
        parts = mask.frPyObjects([[float(number) for number in polygon] for polygon in value], *size)
        merged: RunLengths = mask.merge(parts)
        return merged
    if not isinstance(value, dict):
        raise _UnusableError("without a mask", f"its segmentation is {value!r:.40}")
    counts = value.get("counts")
    if isinstance(counts, str):
        counts = list(_uncompressed(counts))
    runs = counts if isinstance(counts, list) and all(isinstance(run, int) and run >= 0 for run in counts) else []
    # pycocotools checks nothing, and would write beyond the image.
    if value.get("size") != size or sum(runs) != size[0] * size[1]:
        raise _UnusableError("with a broken mask", f"its run lengths are not those of {size[0]} x {size[1]} pixels")
    encoded: RunLengths = mask.frPyObjects({"size": size, "counts": runs}, *size)
    return encoded


def _is_polygon(polygon: Any, image: _Image) -> bool:
    """At least three points, none further from the image than its own size."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(_is_finite, polygon)):
        return False
    limits = (image.width, image.height)
    return all(-limits[at % 2] <= number <= 2 * limits[at % 2] for at, number in enumerate(polygon))


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _uncompressed(text: str) -> Iterator[int]:
    """The run lengths in COCO's string: 5 bits a character, signed, each from the third on minus the one two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("latin-1", "replace"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 30:
            raise _UnusableError("with a broken mask", "its run lengths are no string of COCO")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        yield runs[-1]
        value = shift = 0
