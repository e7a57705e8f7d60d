"""Reported sizes against counted parameters, multiply-accumulates and latency."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.factory import get_model_config

from workbench.config.inheritance import Plan, TowerShape
from workbench.inheritance import inherit, report
from workbench.inheritance.inheritance_map import planned_map
from workbench.inheritance.report import (
    WARM_UPS,
    describe,
    measure_latency,
    multiply_accumulates,
    student_at,
)
from workbench.models.clip import Clip, count_parameters
from workbench.models.configs import tower_shape, with_shape
from workbench.models.tokenizers import BytePairTokenizer


def test_both_towers_in_numbers(make_teacher):
    model = inherit(make_teacher(), Plan.parse({"image": {"width": 20, "heads": 3}}))
    towers = describe(model)
    assert towers["image"].shape == tower_shape(model.config, "image")
    assert towers["image"].shape.heads == (3,) * 4
    assert towers["text"].multiply_accumulates == multiply_accumulates(model, "text")
    whole = count_parameters(model)
    assert sum(tower.block_parameters for tower in towers.values()) == whole["blocks"] - 1  # without the scale
    assert sum(tower.embedding_parameters for tower in towers.values()) == whole["embeddings"]
    assert towers["image"].embedding_parameters == 5 * 20


def test_a_resnet_has_no_shape_but_costs(resnet):
    image = describe(resnet)["image"]
    assert image.shape is None
    assert image.multiply_accumulates > 0
    assert image.block_parameters > 0


def test_latency_is_measured_in_evaluation_mode_and_leaves_the_mode(make_teacher):
    model = make_teacher().train()
    for tower in ("image", "text"):
        (latency,) = measure_latency([model], tower, batch_size=2, repeats=4)
        assert 0 < latency.low_ms <= latency.median_ms <= latency.high_ms < 1000
    assert model.training


def test_latency_is_the_quartiles_of_the_times_after_the_warm_up(make_teacher, monkeypatch):
    durations_ms = [*[9000.0] * 2 * WARM_UPS, 5, 50, 1, 10, 2, 20, 4, 40, 3, 30]  # two models, in turns
    readings_s = np.cumsum([part for duration_ms in durations_ms for part in (0, duration_ms / 1e3)]).tolist()
    monkeypatch.setattr(report.time, "perf_counter", iter(readings_s).__next__)
    fast, slow = measure_latency([make_teacher(), make_teacher()], "text", repeats=5)
    assert (fast.low_ms, fast.median_ms, fast.high_ms) == pytest.approx((2, 3, 4))
    assert (slow.low_ms, slow.median_ms, slow.high_ms) == pytest.approx((20, 30, 40))


def test_a_student_is_the_newest_one_or_as_large_as_its_masks_were(make_teacher):
    teacher = make_teacher()
    plan = Plan.parse({"image": {"depth": 2}, "text": {"width": 16, "heads": 1, "channels": 5}})
    student = inherit(teacher, plan)
    planned = planned_map(teacher, plan).snapshot(0, 0)
    assert student_at(planned, teacher, student) is student
    before = planned_map(teacher, Plan()).snapshot(0, 0)
    whole = student_at(before, teacher, student)
    assert count_parameters(whole) == count_parameters(teacher)
    build_student = student_at(planned, teacher, teacher)
    assert count_parameters(build_student) == count_parameters(student)
    with pytest.raises(ValueError, match="has changed since"):
        student_at(planned, student, student)


def test_a_tower_that_lost_all_has_one_layer_left(make_teacher):
    teacher = make_teacher()
    snapshot = planned_map(teacher, Plan()).snapshot(0, 0)
    mask = snapshot.towers["text"]
    nothing = replace(
        mask, heads=tuple(map(np.zeros_like, mask.heads)), channels=tuple(map(np.zeros_like, mask.channels))
    )
    student = student_at(replace(snapshot, towers={"text": nothing}), teacher, teacher)
    assert tower_shape(student.config, "text").heads == (0,)


def blocks(shape: TowerShape, num_tokens: int) -> int:
    """Multiply-accumulates of a transformer's blocks: a weight counts once per token, a pair of tokens twice."""
    attended = 2 * num_tokens**2 * shape.head_width * sum(shape.heads)
    return num_tokens * shape.block_weights + attended


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"image": {"depth": 2, "width": 16}, "text": {"depth": 1}},
        {"image": {"width": 20, "heads": 3, "channels": 50}, "text": {"heads": 1, "channels": 7}},
    ],
)
def test_the_cost_of_transformers_is_that_of_their_matrices(make_teacher, plan):
    model = inherit(make_teacher(), Plan.parse(plan))
    image, text = (tower_shape(model.config, tower) for tower in ("image", "text"))
    patch_size, embed_dim = model.config["vision_cfg"]["patch_size"], model.config["embed_dim"]
    num_patches = (model.image_size // patch_size) ** 2
    patches = num_patches * 3 * patch_size**2 * image.width
    expected = patches + blocks(image, num_patches + 1) + image.width * embed_dim
    assert multiply_accumulates(model, "image") == expected
    expected = blocks(text, model.tokenizer.context_length) + text.width * embed_dim
    assert multiply_accumulates(model, "text") == expected


def test_layers_with_nothing_cost_nothing(make_teacher):
    teacher = make_teacher()
    shape = tower_shape(teacher.config, "text")
    bare = shape.model_copy(update={"heads": (0, 2, 0), "channels": (0, 7, 0)})
    one = TowerShape(width=shape.width, head_width=shape.head_width, heads=(2,), channels=(7,))
    costs = [
        multiply_accumulates(Clip(with_shape(teacher.config, "text", each), teacher.tokenizer), "text")
        for each in (bare, one)
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(("name", "expected"), [("ViT-B-32", 4_408_811_520), ("RN50", 6_111_469_568)])
def test_the_cost_of_the_real_sizes_is_as_in_papers(name, expected):
    with torch.device("meta"):
        model = Clip(get_model_config(name), BytePairTokenizer())
    assert multiply_accumulates(model, "image") == expected


@pytest.mark.parametrize(("plan", "is_smaller"), [({}, False), ({"depth": [1, 2, 2, 1]}, True), ({"width": 6}, True)])
def test_a_smaller_resnet_costs_less(resnet, plan, is_smaller):
    model = inherit(resnet, Plan.parse({"image": plan}))
    assert (multiply_accumulates(model, "image") < multiply_accumulates(resnet, "image")) == is_smaller
