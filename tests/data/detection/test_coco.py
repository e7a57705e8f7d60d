"""COCO instance files, against pycocotools reading the same file, and files that cannot be used."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from workbench.data.detection.coco import CocoDetection, _uncompressed
from workbench.data.detection.dataset import decode_masks, encode_masks
from workbench.data.detection.scenes import DenseScenes
from workbench.data.unusable import ImageError


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Eight scenes as a COCO file: polygons, compressed and plain run lengths, and a crowd."""
    folder, scenes = tmp_path_factory.mktemp("coco"), DenseScenes("train", 8)
    (folder / "images").mkdir()
    document: dict[str, Any] = {"images": [], "annotations": []}
    # Ids are not positions, as in COCO, whose categories have gaps.
    document["categories"] = [{"id": 3 * number + 2, "name": name} for number, name in enumerate(scenes.categories)]
    for index in range(8):
        scenes.image(index).save(folder / "images" / f"{index}.png")
        height, width = scenes.size(index)
        name = f"{index}.png"
        document["images"].append({"id": 1000 - index, "file_name": name, "height": height, "width": width})
        objects = scenes.objects(index)
        for row, (x0, y0, x1, y1) in enumerate(objects.boxes_M4.tolist()):
            encoded = objects.masks[row]
            mask = decode_masks([encoded], height, width)[0]
            flat = mask.flatten(order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
            counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
            segmentation: Any = (
                [[x0, y0, x1, y0, x1, y1, x0, y1]],
                {"size": [height, width], "counts": encoded["counts"].decode()},
                {"size": [height, width], "counts": counts},
            )[row % 3]
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": 1000 - index,
                    "category_id": 3 * int(objects.labels_M[row]) + 2,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(objects.areas_M[row]),
                    "iscrowd": int(index == 7 and row == 0),
                    "segmentation": segmentation,
                }
            )
    (folder / "file.json").write_text(json.dumps(document))
    return folder


def spec(folder: Path) -> str:
    return f"{folder}/file.json@{folder}/images"


def changed(written: Path, tmp_path: Path, change: Any) -> str:
    """The SPEC of the file after ``change`` of its document."""
    document = copy.deepcopy(json.loads((written / "file.json").read_text()))
    change(document)
    (tmp_path / "file.json").write_text(json.dumps(document))
    return f"{tmp_path}/file.json@{written}/images"


def test_boxes_classes_and_masks_are_those_that_pycocotools_reads(written):
    dataset, coco = CocoDetection(spec(written)), COCO(written / "file.json")
    assert len(dataset) == 8
    for index in range(8):
        entries = coco.loadAnns(coco.getAnnIds(1000 - index))
        objects = dataset.objects(index)
        found = decode_masks(objects.masks, *dataset.size(index))
        assert np.array_equal(found, [coco.annToMask(entry).astype(bool) for entry in entries])
        assert [dataset.categories[label] for label in objects.labels_M] == [
            coco.loadCats(entry["category_id"])[0]["name"] for entry in entries
        ]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
        assert objects.boxes_M4.tolist() == corners
        assert objects.areas_M.tolist() == [entry["area"] for entry in entries]
        assert objects.is_crowd_M.tolist() == [bool(entry["iscrowd"]) for entry in entries]
        assert dataset.image(index).size == (128, 128)


def test_boxes_alone_need_no_masks(written, tmp_path):
    def drop(document):
        for annotation in document["annotations"]:
            annotation.pop("segmentation")

    path = changed(written, tmp_path, drop)
    assert len(CocoDetection(path, with_masks=False)) == 8
    with pytest.raises(ValueError, match=r"^[^\n]*no masks[^\n]*--boxes-only"):
        CocoDetection(path)


def set_all(**fields):
    def change(document):
        for annotation in document["annotations"]:
            annotation.update(fields)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda document: document.update(annotations=[]), "has no annotations"),
        (lambda document: document.pop("annotations"), "'annotations'"),
        (lambda document: document.pop("categories"), "'categories'"),
        (lambda document: document.update(categories=[]), "no categories"),
        (lambda document: document["images"].append(document["images"][0]), "twice"),
        (lambda document: document["images"][0].update(height=0), "height 0"),
        (lambda document: document["images"][0].pop("width"), "'width'"),
        (set_all(image_id=5), "of unlisted images"),
        (set_all(category_id=1), "of unlisted categories"),
        (set_all(bbox=[100, 100, 60, 5]), "with a box outside of its image"),
        (set_all(bbox=[3, 3, 0, 5]), "with an empty box"),
        (set_all(bbox=[3, 3, float("nan"), 5]), "without a box"),
        (set_all(segmentation=[[1, 2, 3, 4]]), "with a broken mask"),
        (set_all(segmentation=[[1, 2, 3, 4, 5, 1e9]]), "with a broken mask"),
        (set_all(segmentation={"size": [128, 128], "counts": [1, 2]}), "with a broken mask"),
        (set_all(segmentation={"size": [64, 256], "counts": [128 * 128]}), "with a broken mask"),
        (set_all(segmentation={"size": [128, 128], "counts": "\x01\x7f"}), "with a broken mask"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(written, tmp_path, change, named):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        CocoDetection(changed(written, tmp_path, change))
    assert named in str(refused.value)


def test_a_few_broken_annotations_are_left_out_and_counted(written, tmp_path):
    def change(document):
        document["annotations"][0]["bbox"] = None
        document["annotations"][1]["image_id"] = 77
        document["annotations"].append("nothing")

    with pytest.warns(UserWarning, match=r"3 of [^\n]*1 without a box[^\n]*") as warned:
        dataset = CocoDetection(changed(written, tmp_path, change))
    assert "1 of unlisted images" in str(warned[0].message)
    whole = CocoDetection(spec(written))
    assert sum(len(dataset.objects(i)) for i in range(8)) == sum(len(whole.objects(i)) for i in range(8)) - 2
    assert dataset.fingerprint != whole.fingerprint


def test_an_image_of_another_size_than_the_file_says_is_unusable(written, tmp_path):
    def change(document):
        document["images"][0]["height"] = 256
        document["annotations"] = [one for one in document["annotations"] if isinstance(one["segmentation"], list)]

    with pytest.raises(ImageError, match="128 x 128 pixels"):
        CocoDetection(changed(written, tmp_path, change)).image(0)


def test_images_without_an_object_are_left_out(written, tmp_path):
    def change(document):
        document["annotations"] = [one for one in document["annotations"] if one["image_id"] != 1000]

    with pytest.warns(UserWarning, match="1 images"):
        dataset = CocoDetection(changed(written, tmp_path, change))
    assert len(dataset) == 7
    assert np.array_equal(np.array(dataset.image(0)), np.array(Image.open(written / "images" / "1.png")))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_run_lengths_are_read_as_pycocotools_writes_them(height, width, seed, share):
    mask = np.random.default_rng(seed).random((1, height, width)) < share
    (encoded,) = encode_masks(mask)
    runs = list(_uncompressed(encoded["counts"].decode()))
    assert sum(runs) == height * width
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask[0].flatten(order="F"))
