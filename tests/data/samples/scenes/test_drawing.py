import itertools
import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.data.samples.scenes import SPLITS, WORDS, draw
from workbench.data.samples.scenes.attributes import SIZES, TONES_RGB, split_of
from workbench.data.samples.scenes.drawing import bounding_boxes, mask_of, run_lengths
from workbench.data.samples.scenes.shapes import SIDE_PX


@pytest.fixture(scope="module")
def images():
    return {split: list(draw(split, 0, 600)) for split in SPLITS}


@pytest.fixture(scope="module")
def everything(images):
    return list(itertools.chain.from_iterable(images.values()))


def same(one, other):
    return (one.key, one.record, one.image.tobytes()) == (other.key, other.record, other.image.tobytes())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(0, 400), st.integers(1, 150))
def test_an_image_does_not_depend_on_the_batch(images, split, start, count):
    for one, other in zip(draw(split, start, count), images[split][start : start + count], strict=False):
        assert same(one, other)


def test_draw_gives_as_many_as_asked_with_keys_in_order():
    assert [sample.key for sample in draw("test", 63, 3)] == ["test-0000063", "test-0000064", "test-0000065"]
    assert list(draw("test", 5, 0)) == []


def test_splits_share_no_image(everything):
    assert len({sample.image.tobytes() for sample in everything}) == len(everything)


def test_held_out_combinations_never_leak(images):
    for split, drawn in images.items():
        home = "train" if split == "teacher" else split
        for sample in drawn:
            things = sample.record["objects"]
            splits = [split_of(thing["colour"], thing["texture"], thing["shape"]) for thing in things]
            assert splits == [home, "train"]


def test_the_relation_is_that_of_the_boxes(everything):
    for sample in everything:
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = (thing["box"] for thing in sample.record["objects"])
        truth = {"left of": ax1 <= bx0, "right of": bx1 <= ax0, "above": ay1 <= by0, "below": by1 <= ay0}
        assert truth[sample.record["relation"]]
        across, along = abs(ax0 + ax1 - bx0 - bx1), abs(ay0 + ay1 - by0 - by1)
        if sample.record["relation"] in ("left of", "right of"):
            across, along = along, across
        assert along > across


def test_masks_fill_their_boxes_and_do_not_overlap(everything):
    for sample in everything:
        masks = [mask_of(thing["mask"], SIDE_PX, SIDE_PX) for thing in sample.record["objects"]]
        for mask, thing in zip(masks, sample.record["objects"], strict=True):
            rows, columns = np.nonzero(mask)
            assert thing["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert not (masks[0] & masks[1]).any()


def test_sizes_are_distinguishable_within_a_shape(everything):
    areas = defaultdict(list)
    for sample in everything:
        for thing in sample.record["objects"]:
            areas[thing["shape"], thing["size"]].append(sum(thing["mask"][1::2]))
    for shape in {shape for shape, _ in areas}:
        for smaller, larger in itertools.pairwise(SIZES):
            assert 1.3 * max(areas[shape, smaller]) < min(areas[shape, larger])


def test_plain_objects_have_the_color_of_their_name(everything):
    names = list(TONES_RGB)
    tones = np.array([TONES_RGB[name][0] for name in names], dtype=float)
    for sample in everything:
        pixels = np.asarray(sample.image, dtype=float)
        for thing in sample.record["objects"]:
            if thing["texture"] == "plain":
                seen = pixels[mask_of(thing["mask"], SIDE_PX, SIDE_PX)].mean(axis=0)
                seen *= np.linalg.norm(tones, axis=1).mean() / np.linalg.norm(seen)
                scaled = tones * np.linalg.norm(tones, axis=1).mean() / np.linalg.norm(tones, axis=1, keepdims=True)
                nearest = np.argsort(np.linalg.norm(scaled - seen, axis=1))[:2]
                assert thing["colour"] in [names[place] for place in nearest]


def test_backgrounds_are_muted(everything):
    for sample in everything:
        covered = sum(mask_of(thing["mask"], SIDE_PX, SIDE_PX) for thing in sample.record["objects"])
        background = np.asarray(sample.image)[~covered.astype(bool)]
        assert np.ptp(background.mean(axis=0)) < 45


def test_captions_number_and_words(images):
    for split, drawn in images.items():
        for sample in drawn:
            texts = sample.record["captions"]
            assert len(set(texts)) == len(texts) == (5 if split in ("train", "teacher") else 1)
            assert all(set(text.split()) <= set(WORDS) for text in texts)


def test_captions_name_the_objects_of_the_image(everything):
    for sample in everything:
        objects = sample.record["objects"]
        named = [f"{one['size']} {one['colour']} {one['texture']} {one['shape']}" for one in objects]
        for text in sample.record["captions"][:3]:
            assert all(name in text for name in named)
        assert all(name in sample.record["group"] for name in named)


def test_drawing_is_quick():
    began_s = time.process_time()
    assert sum(1 for _ in draw("train", 10_000, 512)) == 512
    assert time.process_time() - began_s < 2  # about 0.12 s when nothing else runs


MASKS = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def test_run_lengths_of_a_mask_written_out():
    mask = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
    assert run_lengths(mask[None]) == [[1, 3, 2]]
    assert run_lengths(~mask[None]) == [[0, 1, 3, 2]]


@given(MASKS)
def test_masks_survive_the_round_trip(mask_MHW):
    for mask_HW, runs in zip(mask_MHW, run_lengths(mask_MHW), strict=True):
        assert sum(runs) == mask_HW.size
        assert (mask_of(runs, *mask_HW.shape) == mask_HW).all()


@given(MASKS)
def test_boxes_are_the_extremes_of_the_pixels_inside(mask_MHW):
    for mask_HW, (x0, y0, x1, y1) in zip(mask_MHW, bounding_boxes(mask_MHW).tolist(), strict=True):
        rows, columns = np.nonzero(mask_HW)
        if len(rows):
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_run_lengths_of_another_size_are_refused():
    with pytest.raises(ValueError, match="add up to 6 pixels, not 3 x 3"):
        mask_of([1, 3, 2], 3, 3)
