import hashlib

import numpy as np
import pytest

from workbench.data.samples.scenes.attributes import combinations
from workbench.data.samples.scenes.dense import NUM_OBJECTS, SIDE_PX, draw_dense


@pytest.fixture(scope="module")
def scenes():
    return [draw_dense("train", index) for index in range(40)]


def test_a_scene_is_a_function_of_its_split_and_index(scenes):
    again = draw_dense("train", 3)
    assert np.array_equal(again.image_HW3, scenes[3].image_HW3)
    assert np.array_equal(again.masks_KHW, scenes[3].masks_KHW)
    assert not np.array_equal(draw_dense("validation", 3).image_HW3, again.image_HW3)


def test_the_pixels_are_pinned(scenes):
    digest = hashlib.sha256()
    for scene in scenes[:8]:
        digest.update(scene.image_HW3.tobytes() + scene.masks_KHW.tobytes())
    assert digest.hexdigest() == "449182ba26cfddcc572adc6f305a2ac5f122a359a7c06bf6089d37d1ac74d9ce"


def test_scenes_have_several_objects_of_different_sizes(scenes):
    counts = [len(scene.triples_K3) for scene in scenes]
    assert max(counts) <= NUM_OBJECTS[1] and np.mean(counts) > 4
    areas = np.concatenate([scene.masks_KHW.sum((1, 2)) for scene in scenes])
    assert np.percentile(areas, 90) > 10 * np.percentile(areas, 5)
    assert all(scene.image_HW3.shape == (SIDE_PX, SIDE_PX, 3) for scene in scenes)


def test_boxes_are_those_of_the_masks_and_masks_share_no_pixel(scenes):
    for scene in scenes:
        assert scene.masks_KHW.sum(0).max() <= 1
        for mask, (x0, y0, x1, y1) in zip(scene.masks_KHW, scene.boxes_K4, strict=True):
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_a_mask_covers_pixels_that_differ_from_the_background(scenes):
    # The background is light and of low saturation, so objects are where the saturation is high or the image is dark.
    for scene in scenes[:10]:
        image = scene.image_HW3.astype(int)
        stands_out = (image.max(2) - image.min(2) > 70) | (image.max(2) < 130)
        inside = scene.masks_KHW.any(0)
        assert stands_out[inside].mean() > 0.75
        assert stands_out[~inside].mean() < 0.05


def test_training_scenes_have_training_combinations_and_half_of_the_others_are_unseen(scenes):
    known = set(map(tuple, combinations("train").tolist()))
    assert {tuple(triple) for scene in scenes for triple in scene.triples_K3.tolist()} <= known
    held_out = [tuple(t) for index in range(40) for t in draw_dense("validation", index).triples_K3.tolist()]
    assert 0.35 < np.mean([triple not in known for triple in held_out]) < 0.65
    assert {triple for triple in held_out if triple not in known} <= set(
        map(tuple, combinations("validation").tolist())
    )
