"""A report says of both towers what counting them says, and how long they take."""

from workbench.config.inheritance import Plan
from workbench.inheritance import inherit
from workbench.inheritance.costs import multiply_accumulates
from workbench.inheritance.report import describe, measure_latency_ms
from workbench.models.counting import count_parameters
from workbench.models.shapes import tower_shape


def test_both_towers_in_numbers(make_teacher):
    model = inherit(make_teacher(), Plan.parse({"image": {"width": 20, "heads": 3}}))
    report = describe(model)
    assert report["image"].shape == tower_shape(model.config, "image")
    assert report["image"].shape.heads == (3,) * 4
    assert report["text"].multiply_accumulates == multiply_accumulates(model.config, "text")
    whole = count_parameters(model)
    assert sum(tower.block_parameters for tower in report.values()) == whole["blocks"] - 1  # without the scale
    assert sum(tower.embedding_parameters for tower in report.values()) == whole["embeddings"]
    assert report["image"].embedding_parameters == 5 * 20


def test_a_resnet_has_no_shape_but_costs(resnet):
    report = describe(resnet)["image"]
    assert report.shape is None
    assert report.multiply_accumulates > 0
    assert report.block_parameters > 0


def test_latency_is_measured_in_evaluation_mode_and_leaves_the_mode(make_teacher):
    model = make_teacher().train()
    for tower in ("image", "text"):
        assert 0 < measure_latency_ms(model, tower, batch_size=2, repeats=3) < 1000
    assert model.training
