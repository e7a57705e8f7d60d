"""Manual inheritance: without a plan the student is the teacher, with one it has the teacher's weights."""

from dataclasses import replace

import pytest
import torch

from workbench.config.inheritance import Plan
from workbench.inheritance import inherit
from workbench.inheritance.inheritance_map import planned_map
from workbench.inheritance.manual import choose, overlaps_with_rule
from workbench.models.configs import TABLES, tower_shape
from workbench.runs.snapshots import MaskSnapshot


def same_function(one, other, inputs):
    with torch.no_grad():
        images = torch.equal(one.encode_image(inputs[0]), other.encode_image(inputs[0]))
        return images, torch.equal(one.encode_text(inputs[1]), other.encode_text(inputs[1]))


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize(
    "table",
    [
        {},
        {"image": {"depth": 4, "depth_rule": "first", "width": 32, "heads": 4, "channels": 128}, "text": {"depth": 3}},
        {"image": {"depth": [0, 1, 2, 3], "width": 32, "width_rule": "magnitude"}, "text": {"heads": 4}},
    ],
)
def test_a_plan_that_keeps_all_is_the_teacher_exactly(make_teacher, inputs, custom_text, table):
    teacher = make_teacher(custom_text=custom_text)
    student = inherit(teacher, Plan.parse(table))
    assert student.config == teacher.config
    assert same_function(student, teacher, inputs) == (True, True)
    assert float(student.scale.detach()) == float(teacher.scale.detach())
    assert student.input_spec == teacher.input_spec
    assert (student.mean, student.std) == (teacher.mean, teacher.std)
    assert not any(mine is theirs for mine in student.parameters() for theirs in teacher.parameters())


def test_fewer_layers_are_the_teacher_with_some_left_out(make_teacher, inputs):
    teacher = make_teacher()
    student = inherit(teacher, Plan.parse({"image": {"depth": [0, 3]}, "text": {"depth": 1, "depth_rule": "last"}}))
    assert TABLES not in student.config
    assert (student.config["vision_cfg"]["layers"], student.config["text_cfg"]["layers"]) == (2, 1)
    visual, text = teacher.towers.visual.transformer, teacher.towers.transformer
    visual.resblocks = torch.nn.ModuleList([visual.resblocks[0], visual.resblocks[3]])
    text.resblocks = torch.nn.ModuleList([text.resblocks[2]])
    assert same_function(student, teacher, inputs) == (True, True)


def test_a_narrower_plain_tower_holds_the_leading_corner_of_every_matrix(make_teacher):
    teacher = make_teacher()
    student = inherit(teacher, Plan.parse({"image": {"width": 16, "depth": [1, 2, 3]}}))
    assert TABLES not in student.config
    mine, theirs = student.towers.visual.state_dict(), teacher.towers.visual.state_dict()
    block = "transformer.resblocks."
    query, _, value = theirs[f"{block}2.attn.in_proj_weight"].chunk(3)
    my_query, _, my_value = mine[f"{block}1.attn.in_proj_weight"].chunk(3)
    for name, corner in {
        "conv1.weight": theirs["conv1.weight"][:16],
        "class_embedding": theirs["class_embedding"][:16],
        "positional_embedding": theirs["positional_embedding"][:, :16],
        "ln_pre.weight": theirs["ln_pre.weight"][:16],
        "ln_post.bias": theirs["ln_post.bias"][:16],
        "proj": theirs["proj"][:16],
        f"{block}1.attn.out_proj.weight": theirs[f"{block}2.attn.out_proj.weight"][:16, :16],
        f"{block}1.mlp.c_fc.weight": theirs[f"{block}2.mlp.c_fc.weight"][:64, :16],
        f"{block}1.mlp.c_fc.bias": theirs[f"{block}2.mlp.c_fc.bias"][:64],
        f"{block}1.mlp.c_proj.weight": theirs[f"{block}2.mlp.c_proj.weight"][:16, :64],
        f"{block}1.ln_1.weight": theirs[f"{block}2.ln_1.weight"][:16],
    }.items():
        assert torch.equal(mine[name], corner), name
    assert torch.equal(my_query, query[:16, :16])
    assert torch.equal(my_value, value[:16, :16])


def test_heads_may_go_while_the_width_stays(make_teacher, inputs):
    teacher = make_teacher()
    student = inherit(teacher, Plan.parse({"text": {"heads": 3, "width_rule": "magnitude"}}))
    shape = tower_shape(student.config, "text")
    assert (shape.width, shape.heads, shape.channels) == (24, (3, 3, 3), (96, 96, 96))
    chosen = choose(teacher, Plan.parse({"text": {"heads": 3, "width_rule": "magnitude"}}))["text"]
    with torch.no_grad():  # a head whose output is not used is a head that is not there
        for layer, block in enumerate(teacher.towers.transformer.resblocks):
            (gone,) = set(range(4)) - set(chosen.heads[layer])
            block.attn.out_proj.weight[:, 6 * gone : 6 * gone + 6] = 0
        torch.testing.assert_close(student.encode_text(inputs[1]), teacher.encode_text(inputs[1]), atol=1e-5, rtol=1e-5)


def test_a_student_may_be_a_teacher_in_turn(make_teacher, inputs):
    uneven = inherit(make_teacher(), Plan.parse({"image": {"width": 20, "heads": 3, "channels": 50}}))
    assert TABLES in uneven.config
    again = inherit(uneven, Plan.parse({"image": {"depth": 0.5, "width": 12, "heads": 2}}))
    shape = tower_shape(again.config, "image")
    assert (shape.width, shape.heads, shape.channels) == (12, (2, 2), (50, 50))
    assert again.encode_image(inputs[0]).shape == (5, 16)


def test_importance_is_by_the_weights_or_as_given(make_teacher):
    teacher = make_teacher()
    with torch.no_grad():
        for layer, factor in enumerate((3.0, 0.1, 5.0, 0.2)):
            teacher.towers.visual.transformer.resblocks[layer].mlp.c_proj.weight.mul_(factor)
    plan = Plan.parse({"image": {"depth": 2, "depth_rule": "importance"}})
    assert choose(teacher, plan)["image"].layers == (0, 2)
    assert choose(teacher, plan, {"image": [0.0, 1.0, 0.5, 2.0]})["image"].layers == (1, 3)
    with pytest.raises(ValueError, match="image tower: importance scores 2 layers"):
        inherit(teacher, plan, {"image": [0.0, 1.0]})


def test_a_frozen_tower_is_the_teachers_and_does_not_learn(make_teacher, inputs):
    teacher = make_teacher()
    student = inherit(teacher, Plan.parse({"frozen": "image", "text": {"depth": 2}}))
    assert student.frozen == ("image",)
    assert same_function(student, teacher, inputs) == (True, False)
    embedded = student.embed(*inputs)
    assert not embedded.image_BD.requires_grad
    embedded.text_BD.sum().backward()
    learning = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("towers.visual.") for name in learning)
    assert "towers.logit_scale" in learning


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"image": {"depth": 5}}, "image tower: depth 5: the teacher has 4 layers, choose 1 to 4"),
        ({"text": {"width": 13}}, "text tower: width 13 is not a multiple of the head size 6: choose 12 or 18"),
        ({"text": {"heads": 9}}, "text tower: heads 9: the teacher has 4 heads in a layer"),
    ],
)
def test_an_impossible_plan_names_the_tower_and_the_reason(make_teacher, table, words):
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        inherit(make_teacher(), Plan.parse(table))


def test_only_the_tower_that_changes_must_be_a_transformer(make_teacher, inputs):
    teacher = make_teacher(ls_init_value=0.5)
    student = inherit(teacher, Plan.parse({"text": {"depth": 1}}))
    assert same_function(student, teacher, inputs) == (True, False)
    with pytest.raises(ValueError, match="the image tower has ls_init_value: choose a model with"):
        inherit(teacher, Plan.parse({"image": {"depth": 1}}))


def test_what_a_rule_chose_is_all_that_the_rule_would_keep(make_teacher):
    teacher = make_teacher()
    plan = Plan.parse({"text": {"width": 16, "heads": 1, "channels": 9, "width_rule": "magnitude"}})
    snapshot = planned_map(teacher, plan).snapshot(0, 0)
    ruled = overlaps_with_rule(teacher, snapshot, "magnitude")
    assert {overlap.shared for overlap in ruled["text"].values()} == {1.0}
    leading = overlaps_with_rule(teacher, snapshot, "leading")
    assert leading["text"]["channels"].shared < 1
    assert leading["text"]["channels"].chance == ruled["text"]["channels"].chance
    assert leading["image"]["heads"].shared == 1  # nothing went there


def test_a_rule_needs_the_teacher_that_the_masks_are_of(make_teacher):
    teacher = make_teacher()
    mask = planned_map(teacher, Plan.parse({"text": {"depth": 1}})).snapshot(0, 0).towers["text"]
    other = mask.teacher.model_copy(update={"head_width": mask.teacher.head_width + 1})
    foreign = MaskSnapshot(0, 0, False, 0.5, 0.5, {"text": replace(mask, teacher=other)})
    with pytest.raises(ValueError, match="has changed since"):
        overlaps_with_rule(teacher, foreign, "leading")
