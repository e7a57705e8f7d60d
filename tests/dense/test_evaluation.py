"""COCO's metrics, matched some images at a time, against pycocotools on all images at once."""

import contextlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbench.data.detection.dataset import Objects, encode_masks
from workbench.data.detection.scenes import DenseScenes
from workbench.dense.evaluation import METRICS, CocoMetrics, Detections, metric_names

SIDE = 60
AREAS = (32.0**2, 96.0**2)


def random_boxes(random, count):
    corners = random.uniform(0, SIDE - 12, (count, 2))
    return np.concatenate([corners, corners + random.uniform(6, 12, (count, 2))], axis=1).round(1)


def masks_of(boxes):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = [(columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1) for x0, y0, x1, y1 in boxes]
    return encode_masks(np.array(inside).reshape(len(boxes), SIDE, SIDE))


def random_image(random, num_categories):
    """Objects, and detections of which some lie near an object."""
    count = int(random.integers(0, 5))
    boxes = random_boxes(random, count)
    masks = masks_of(boxes)
    objects = Objects(
        boxes_M4=boxes,
        labels_M=random.integers(0, num_categories, count),
        areas_M=random.choice([500.0, 5000.0, 50000.0], count),
        is_crowd_M=random.random(count) < 0.2,
        masks=masks,
    )
    near = np.clip(np.repeat(boxes, 2, axis=0) + random.normal(0, 1.5, (2 * count, 4)), 0, SIDE)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    found = np.concatenate([near, random_boxes(random, int(random.integers(0, 4)))])
    labels = np.concatenate(
        [np.repeat(objects.labels_M, 2), random.integers(0, num_categories, len(found) - len(near))]
    )
    scores = random.random(len(found)).round(2)  # rounded, for ties
    return objects, Detections(found, labels, scores, masks_of(found))


def reference(pairs, num_categories, areas, kind, tmp_path):
    """pycocotools' twelve numbers from files, as everyone computes them."""
    images = [{"id": number + 1, "height": SIDE, "width": SIDE} for number in range(len(pairs))]
    annotations, results = [], []
    for number, (objects, found) in enumerate(pairs):
        for row in range(len(objects)):
            x0, y0, x1, y1 = objects.boxes_M4[row]
            encoded = dict(objects.masks[row])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": int(objects.labels_M[row]) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(objects.areas_M[row]),
                    "iscrowd": int(objects.is_crowd_M[row]),
                    "segmentation": encoded | {"counts": encoded["counts"].decode()},
                }
            )
        for row in range(len(found.scores_M)):
            x0, y0, x1, y1 = found.boxes_M4[row]
            encoded = dict(found.masks[row])
            what = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if kind == "bbox" else {}
            what |= {"segmentation": encoded | {"counts": encoded["counts"].decode()}} if kind == "segm" else {}
            label = int(found.labels_M[row]) + 1
            score = float(found.scores_M[row])
            results.append({"image_id": number + 1, "category_id": label, "score": score} | what)
    categories = [{"id": number + 1, "name": str(number)} for number in range(num_categories)]
    (tmp_path / "truth.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    (tmp_path / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tmp_path / "truth.json")
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), kind)
        small, medium = areas
        evaluation.params.areaRng = [[0, 1e10], [0, small], [small, medium], [medium, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


@pytest.mark.parametrize("areas", [AREAS, (600.0, 6000.0)])
@pytest.mark.parametrize("chunk", [1, 3, 40])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_metrics_of_random_detections_agree_with_pycocotools(seed, chunk, areas, tmp_path_factory):
    random = np.random.default_rng(seed)
    num_categories = int(random.integers(1, 4))
    pairs = [random_image(random, num_categories) for _ in range(8)]
    if not any(len(found.scores_M) for _, found in pairs):
        return  # pycocotools refuses an empty list of results
    metrics = CocoMetrics(num_categories, areas)
    for start in range(0, len(pairs), chunk):
        metrics.add([((SIDE, SIDE), *pair) for pair in pairs[start : start + chunk]])
    found = metrics.compute()
    for kind, coco_kind in (("box", "bbox"), ("mask", "segm")):
        expected = reference(pairs, num_categories, areas, coco_kind, tmp_path_factory.mktemp("coco"))
        ours = [found.get(f"{kind}_{name}", -1) for name in METRICS]  # pycocotools writes -1 where nothing is to find
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def perfect(objects):
    scores = np.linspace(0.9, 0.5, len(objects))
    return Detections(objects.boxes_M4, objects.labels_M, scores, objects.masks)


def measured(dataset, detections):
    metrics = CocoMetrics(len(dataset.categories), dataset.areas_px)
    for index, found in enumerate(detections):
        metrics.add([(dataset.size(index), dataset.objects(index), found)])
    return metrics.compute()


def test_a_perfect_detector_scores_one_and_a_shuffled_one_near_zero():
    dataset = DenseScenes("validation", 24)
    truth = [perfect(dataset.objects(index)) for index in range(24)]
    scores = measured(dataset, truth)
    assert scores.keys() == metric_names()
    assert all(value == pytest.approx(1.0) for value in scores.values())
    shuffled = measured(dataset, truth[1:] + truth[:1])  # every image has the objects of another
    assert max(shuffled[name] for name in ("box_ap", "mask_ap")) < 0.03


def test_a_detector_that_finds_nothing_scores_zero():
    dataset = DenseScenes("validation", 4)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    assert set(measured(dataset, [nothing] * 4).values()) == {0.0}


def test_detections_in_a_crowd_are_not_counted_as_wrong():
    box = np.array([[2.0, 2.0, 50.0, 50.0]])
    crowd = Objects(box, np.array([0]), np.array([2304.0]), np.array([True]), masks_of(box))
    one = np.array([[52.0, 52.0, 59.0, 59.0]])
    both = Objects(
        np.concatenate([box, one]),
        np.array([0, 0]),
        np.array([2304.0, 49.0]),
        np.array([True, False]),
        masks_of(np.concatenate([box, one])),
    )
    inside = np.array([[5.0, 5.0, 15.0, 15.0], [20.0, 20.0, 30.0, 30.0], *one.tolist()])
    found = Detections(inside, np.zeros(3, np.int64), np.array([0.9, 0.8, 0.7]), masks_of(inside))
    metrics = CocoMetrics(1, AREAS)
    metrics.add([((SIDE, SIDE), both, found)])
    assert metrics.compute()["box_ap"] == pytest.approx(1.0)
    alone = CocoMetrics(1, AREAS)
    alone.add([((SIDE, SIDE), crowd, found)])
    assert "box_ap" not in alone.compute()  # nothing is to be found


def test_the_mean_can_be_taken_of_some_categories():
    dataset = DenseScenes("validation", 12)
    metrics = CocoMetrics(len(dataset.categories), dataset.areas_px)
    for index in range(12):
        objects = dataset.objects(index)
        found = perfect(objects)
        wrong = found.labels_M == 0
        found.boxes_M4[wrong] += 60.0
        metrics.add([(dataset.size(index), dataset.objects(index), found)])
    assert metrics.compute([1, 2])["box_ap"] == pytest.approx(1.0)
    assert metrics.compute([0])["box_ap"] < 0.05
    assert 0.7 < metrics.compute()["box_ap"] < 0.9


def test_memory_does_not_hold_the_masks_of_earlier_images():
    def grown(num_images):
        random = np.random.default_rng(0)
        tracemalloc.start()
        metrics = CocoMetrics(2, AREAS)
        for _ in range(num_images):
            objects, found = random_image(random, 2)
            large = coco_masks.encode(np.asfortranarray(random.random((400, 400)) < 0.5, dtype=np.uint8))  # 50 kB
            found = Detections(found.boxes_M4, found.labels_M, found.scores_M, [large] * len(found.scores_M))
            masks = [coco_masks.encode(np.zeros((400, 400), np.uint8, order="F"))] * len(objects)
            crowds = Objects(objects.boxes_M4, objects.labels_M, objects.areas_M, objects.is_crowd_M, masks)
            metrics.add([((400, 400), crowds, found)])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    few, many = grown(5), grown(20)
    assert (many - few) / 15 < 30_000  # bytes an image, less than one of its masks
