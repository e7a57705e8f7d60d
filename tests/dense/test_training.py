from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.config.dense import DenseConfig, count_steps
from workbench.data.detection.scenes import DenseScenes
from workbench.data.detection.spec import DetectionData
from workbench.data.unusable import ImageError, RefusedError
from workbench.dense.training import DetectorTraining, _flipped, _target, learning_rate
from workbench.models.spec import load_model

SETTINGS = {"data": "samples:scenes-dense", "image_size": 64, "width": 8, "regions": 8, "batch_size": 2}


class Changed(DenseScenes):
    """Scenes whose first object is a crowd, and of which some images cannot be decoded."""

    broken = frozenset()

    def image(self, index):
        if index in self.broken:
            raise ImageError("missing file", f"no image {index}")
        return super().image(index)

    def objects(self, index):
        objects = super().objects(index)
        return replace(objects, is_crowd_M=np.arange(len(objects)) == 0)


@pytest.fixture(scope="module")
def student():
    return load_model("mini-w64", seed=0)


def training_on(student, train, **changes):
    config = DenseConfig(**SETTINGS | changes)
    return DetectorTraining(student, config, DetectionData(train, DenseScenes("validation", 2)), seed=3)


def test_the_learning_rate_warms_up_and_decays_to_zero():
    rates = [learning_rate(step, 100, 0.4) for step in range(101)]
    assert rates[:6] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4, 0.4])
    assert np.all(np.diff(rates[5:]) < 0)
    assert rates[100] == pytest.approx(0.0)


def test_an_epoch_has_every_image_once(student):
    training = training_on(student, DenseScenes("train", 5), epochs=4)
    assert training.num_steps == count_steps(training.config, 5) == 10
    order = [training._index(position) for position in range(20)]
    epochs = [order[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_a_batch_is_a_function_of_seed_and_step(student):
    one, other = (training_on(student, DenseScenes("train", 6), epochs=9) for _ in range(2))
    list(one.batches(20))
    for step in (0, 7):
        (images, targets), (again, same) = one.batch(step), other.batch(step)
        assert all(map(torch.equal, images, again))
        assert all(torch.equal(target["masks"], twin["masks"]) for target, twin in zip(targets, same, strict=True))


def test_crowds_are_not_trained_on():
    scenes = Changed("train", 4)
    target = _target(scenes, 2)
    objects = scenes.objects(2)
    assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"]) == len(objects) - 1
    assert torch.equal(target["labels"], torch.tensor(objects.labels_M[1:]) + 1)


def test_a_mirrored_target_has_the_boxes_of_its_masks():
    target = _flipped(_target(DenseScenes("train", 1), 0), 128)
    for (x0, y0, x1, y1), mask in zip(target["boxes"].tolist(), target["masks"], strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_an_image_that_cannot_be_decoded_is_replaced_and_counted(student):
    scenes = Changed("train", 100)
    scenes.broken = frozenset({7})
    training = training_on(student, scenes, epochs=1)
    for step in range(training.num_steps):
        assert len(training.batch(step)[0]) == 2
    assert "1 missing file" in training.news()
    scenes.broken = frozenset(range(100))
    with pytest.raises(RefusedError, match="missing file"):
        training.batch(0)


def test_tensors_restore_heads_and_moments(student):
    first, second = (training_on(student, DenseScenes("train", 6), epochs=3) for _ in range(2))
    for step in range(3):
        first.train_step(first.batch(step), step)
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()})
    for one in (first, second):
        one.train_step(one.batch(3), 3)
    assert first.tensors().keys() == second.tensors().keys()
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())


def test_tensors_of_another_detector_are_refused(student):
    wide = training_on(student, DenseScenes("train", 6), width=12)
    with pytest.raises(ValueError, match=r"^the detector's weights do not fit[^\n]*$"):
        training_on(student, DenseScenes("train", 6)).load(wide.tensors())


def test_torchs_global_random_state_stays(student):
    before = torch.random.get_rng_state()
    training = training_on(student, DenseScenes("train", 4), epochs=1)
    training.train_step(training.batch(0), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
