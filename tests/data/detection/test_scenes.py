import numpy as np
import pytest

from workbench.data.detection.dataset import decode_masks
from workbench.data.detection.scenes import DenseScenes
from workbench.data.samples.scenes.dense import draw_dense


def test_objects_are_those_of_the_drawn_scene():
    dataset, scene = DenseScenes("validation", 5), draw_dense("validation", 4)
    objects = dataset.objects(4)
    assert np.array_equal(np.array(dataset.image(4)), scene.image_HW3)
    assert np.array_equal(objects.boxes_M4, scene.boxes_K4)
    assert np.array_equal(decode_masks(objects.masks, *dataset.size(4)), scene.masks_KHW)
    assert np.array_equal(objects.areas_M, scene.masks_KHW.sum((1, 2)))
    assert not objects.is_crowd_M.any()
    assert [dataset.categories[label] for label in objects.labels_M] == [
        ("circle", "square", "triangle", "star", "cross", "ring")[shape] for *_, shape in scene.triples_K3
    ]


def test_any_number_can_be_read_without_drawing_the_others():
    dataset = DenseScenes("train", 10**9)
    assert len(dataset) == 10**9
    assert np.array_equal(np.array(dataset.image(10**9 - 1)), draw_dense("train", 10**9 - 1).image_HW3)


def test_an_open_vocabulary_has_every_combination_and_knows_which_are_unseen():
    dataset = DenseScenes("validation", 30, open_vocabulary=True)
    assert len(set(dataset.categories)) == len(dataset.categories) == 8 * 3 * 6
    labels = np.concatenate([dataset.objects(index).labels_M for index in range(30)])
    assert 0.3 < np.isin(labels, sorted(dataset.unseen)).mean() < 0.7
    trained = DenseScenes("train", 30, open_vocabulary=True)
    assert not np.isin(np.concatenate([trained.objects(i).labels_M for i in range(30)]), sorted(trained.unseen)).any()


def test_the_fingerprint_depends_on_split_number_and_vocabulary():
    prints = [DenseScenes("train", 5), DenseScenes("train", 6), DenseScenes("test", 5)]
    prints.append(DenseScenes("train", 5, open_vocabulary=True))
    assert len({one.fingerprint for one in prints}) == 4


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        DenseScenes("validaton")
