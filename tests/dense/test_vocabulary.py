"""Open-vocabulary scores: against the equation, and on towers whose embeddings are known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.config.dense import DenseConfig
from workbench.data.detection.scenes import DenseScenes
from workbench.data.detection.spec import DetectionData
from workbench.dense.pyramid import FrozenTower
from workbench.dense.training import DetectorTraining
from workbench.dense.vocabulary import OpenPredictor, RememberingPool, class_embeddings
from workbench.models.spec import load_model

SETTINGS = {"data": "samples:scenes-dense", "open_vocabulary": True, "image_size": 64, "width": 8, "regions": 8}


@pytest.fixture(scope="module")
def teacher():
    return load_model("sample:scenes").eval()


@pytest.fixture
def data():
    return DetectionData(*(DenseScenes(split, 4, open_vocabulary=True) for split in ("train", "validation")))


@pytest.mark.parametrize("size", ["mini-w64", "mini-rn16"])
def test_the_embedding_of_a_region_that_is_the_image_is_the_images(size):
    model = load_model(size, seed=0).eval()
    pixels = torch.rand(2, 3, 64, 64)  # two cells of the ResNet's last stage, pooled to one as the tower pools its own
    tower = FrozenTower(model)
    (*_, last) = tower.maps(pixels)
    whole = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])] * 2
    found = F.normalize(tower.embed_regions(whole), dim=1)
    cells = model.pooled_cells or last.shape[-1]
    expected = F.normalize(model.pool_map(F.adaptive_avg_pool2d(last, cells)).detach(), dim=1)
    assert (found * expected).sum(1).min() > 0.98


def test_pooling_a_whole_map_gives_the_images_embedding(teacher):
    image = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        (last,) = teacher.features(image, [-1], "map")
        torch.testing.assert_close(teacher.pool_map(last), teacher.encode_image(image), rtol=1e-4, atol=1e-5)


def test_class_embeddings_are_means_over_prompts(teacher, data):
    text_KD = class_embeddings(teacher, data.train)
    assert text_KD.shape == (144, 512)
    name = data.train.categories[3]
    prompts = [template.format(name).replace("a orange", "an orange") for template in data.train.templates]
    with torch.no_grad():
        mean_D = F.normalize(teacher.encode_text(teacher.tokenizer(prompts)), dim=1).mean(0)
    torch.testing.assert_close(text_KD[3], F.normalize(mean_D, dim=0), rtol=1e-4, atol=1e-5)


def test_scores_are_geometric_means_of_both_probabilities(teacher):
    config = DenseConfig(**SETTINGS, tower_share=0.2, tower_share_unseen=0.7)
    tower, pool = FrozenTower(teacher), RememberingPool(["0"], 7, 2)
    tower.maps(torch.rand(1, 3, 64, 64))
    pool.regions = [torch.tensor([[0.0, 0.0, 30.0, 30.0], [10.0, 20.0, 50.0, 60.0]])]
    text_KD = F.normalize(torch.randn(5, 512, generator=torch.Generator().manual_seed(0)), dim=1)
    predictor = OpenPredictor(6, tower, pool, text_KD, [1, 4], config).eval()
    pooled = torch.randn(2, 6)
    with torch.no_grad():
        logits, boxes = predictor(pooled)
        region = F.normalize(predictor.embed(pooled), dim=1)
        classes = torch.cat([F.normalize(predictor.background_D, dim=0)[None], text_KD])
        learned = (20.0 * region @ classes.T).softmax(1)[:, 1:].double().numpy()
        own = F.normalize(tower.embed_regions(pool.regions), dim=1)
        tower_probability = (teacher.scale * own @ text_KD.T).softmax(1).double().numpy()
    share = np.array([0.2, 0.7, 0.2, 0.2, 0.7])
    expected = learned ** (1 - share) * tower_probability**share
    np.testing.assert_allclose(logits.softmax(1)[:, 1:], expected, rtol=1e-4, atol=1e-7)
    assert torch.equal(boxes[:, :4], boxes[:, -4:])
    assert boxes.shape == (2, 24)


def test_unseen_classes_have_no_probability_in_training(teacher):
    tower = FrozenTower(teacher)
    text_KD = F.normalize(torch.randn(3, 512), dim=1)
    predictor = OpenPredictor(6, tower, RememberingPool(["0"], 7, 2), text_KD, [1], DenseConfig(**SETTINGS)).train()
    logits, _ = predictor(torch.randn(4, 6))
    assert (logits.softmax(1)[:, 2] == 0).all()
    assert (logits.softmax(1)[:, [0, 1, 3]] > 0).all()


@pytest.mark.parametrize("boxes_only", [False, True])
def test_it_trains_and_measures_seen_and_unseen_classes(teacher, data, boxes_only):
    config = DenseConfig(**SETTINGS, epochs=1, batch_size=2, boxes_only=boxes_only)
    training = DetectorTraining(teacher, config, data, seed=0)
    for step, batch in enumerate(training.batches(0)):
        assert all(torch.isfinite(loss) for loss in training.train_step(batch, step).values())
    measured = training.measure()
    assert {"box_ap", "box_ap_seen", "box_ap_unseen"} <= measured.keys()
    assert ("mask_ap_unseen" in measured) != boxes_only


def test_unseen_names_need_an_open_vocabulary():
    with pytest.raises(ValueError, match=r"dense\.open_vocabulary=true"):
        DenseConfig(unseen=["cat"])
