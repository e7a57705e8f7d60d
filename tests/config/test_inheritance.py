"""Plans and gates as they stand in TOML: amounts, lists, and settings that would have no effect."""

import tomllib

import pytest
import tomli_w

from workbench.config.inheritance import GatesConfig, InheritanceConfig, Plan, TowerPlan, TowerShape
from workbench.config.run import RunConfig


def test_a_plan_survives_toml():
    table = {
        "image": {"depth": [0, 2, 4], "width": 0.5, "width_rule": "magnitude"},
        "text": {"depth": 8, "depth_rule": "released_stride"},
    }
    plan = Plan.parse(table)
    assert plan.image.depth == (0, 2, 4)
    assert plan.image.width == 0.5
    assert Plan.parse(tomllib.loads(tomli_w.dumps(plan.model_dump()))) == plan


def test_the_defaults_keep_everything():
    assert TowerPlan().keeps_all
    assert not TowerPlan(depth=3).keeps_all
    assert not TowerPlan(channels=0.5).keeps_all


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"image": {"depth": 1.5}}, r"image\.depth: input should be less than 1"),
        ({"image": {"depth": 0.0}}, r"image\.depth: input should be greater than 0"),
        ({"image": {"depth": -1}}, r"image\.depth: input should be greater than or equal to 0"),
        ({"image": {"depth": []}}, r"image\.depth: .*at least 1 item"),
        ({"image": {"depth": [1, -2]}}, r"image\.depth\.1: input should be greater than or equal to 0"),
        ({"image": {"depth": "half"}}, r"image\.depth: input should be a valid integer"),
        ({"text": {"dept": 3}}, r"text: unknown setting 'dept': did you mean 'depth'"),
        ({"text": {"depth_rule": "stride", "depth": 3}}, r"text\.depth_rule: input should be 'even'"),
        ({"text": {"depth_rule": "first"}}, "text: depth_rule first chooses among layers"),
        ({"text": {"depth_rule": "first", "depth": [1, 2]}}, "text: depth_rule first chooses among layers"),
        ({"text": {"width_rule": "magnitude"}}, "text: width_rule magnitude needs something to choose"),
        ({"frozen": "image", "image": {"depth": 3}}, "the frozen image tower stays the teacher's"),
        ({"frozen": "both"}, "frozen: input should be"),
    ],
)
def test_a_plan_that_makes_no_sense_is_one_line(table, words):
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        Plan.parse(table)


@pytest.mark.parametrize(
    ("name", "value"), [("sparsity", 0), ("sparsity", 1), ("constraint", "both"), ("ramp_steps", 0)]
)
def test_gates_that_make_no_sense_are_one_line(name, value):
    with pytest.raises(ValueError, match=rf"\A{name}: input should be .*\Z"):
        GatesConfig.parse({name: value})


STAGE = {"sparsity": 0.5, "num_steps": 10, "mask_steps": 4, "ramp_steps": 3}


def test_a_shorter_stage_closes_its_gates_as_much_faster():
    stage = {"sparsity": 0.5, "num_steps": 6000, "mask_steps": 3000}
    (short,) = InheritanceConfig.parse({"stages": [stage]}).stretched(600).stages
    assert (short.num_steps, short.mask_steps, short.ramp_steps) == (600, 300, 100)
    assert short.learning_rate == pytest.approx(0.2)


def test_the_shortest_stages_have_a_step_for_every_phase():
    last = {"sparsity": 0.75, "num_steps": 12, "mask_steps": 11, "ramp_steps": 11}
    stages = InheritanceConfig.parse({"stages": [STAGE, last]}).stretched(4).stages
    assert [(stage.num_steps, stage.mask_steps, stage.ramp_steps) for stage in stages] == [(2, 1, 1), (2, 1, 1)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"stages": [STAGE | {"mask_steps": 10}]}, "stages.0: mask_steps 10 of num_steps 10 leave none"),
        ({"stages": [STAGE | {"ramp_steps": 5}]}, "stages.0: the target is still rising"),
        ({"stages": [STAGE, STAGE]}, r"stages of sparsity \[0.5, 0.5\]: each must remove more"),
        ({"stages": [STAGE], "weights": "random"}, "masks are learned over inherited weights"),
        ({"stages": [STAGE | {"masks": 1}]}, "stages.0: unknown setting 'masks'"),
    ],
)
def test_an_invalid_inheritance_is_an_error_in_one_line(table, words):
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        InheritanceConfig.parse(table)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"inheritance": {"image": {"depth": 2}}}, r"\[inheritance\] is for student.model=inherited"),
        ({"student": {"model": "inherited"}}, "inherit from which model"),
        (
            {"student": {"model": "inherited", "tokenizer": "bpe"}, "inheritance": {"source": "sample:scenes"}},
            "an inherited student keeps its source's tokenizer",
        ),
        (
            {"student": {"model": "inherited"}, "inheritance": {"source": "sample:scenes", "stages": [STAGE]}},
            "train.num_steps is 600, but the stages",
        ),
    ],
)
def test_a_run_whose_inheritance_does_not_fit_is_one_line(table, words):
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        RunConfig.parse(table)


PLAIN = TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)


def test_the_weights_of_vit_b_are_those_of_its_matrices():
    assert PLAIN.block_weights == 12 * (4 * 768 * 768 + 2 * 768 * 3072) == 84_934_656


def test_uneven_layers_are_added_up_one_by_one():
    shape = TowerShape(width=10, head_width=4, heads=(3, 0, 1), channels=(5, 7, 0))
    by_layer = [4 * 10 * 4 * heads + 2 * 10 * channels for heads, channels in ((3, 5), (0, 7), (1, 0))]
    assert shape.block_weights == sum(by_layer)
    assert shape.num_layers == 3


@pytest.mark.parametrize(
    ("changes", "is_plain"),
    [
        ({}, True),
        ({"channels": (100,) * 12}, True),
        ({"width": 760}, False),
        ({"heads": (12,) * 11 + (11,)}, False),
        ({"channels": (3072,) * 11 + (3071,)}, False),
        ({"heads": (11,) * 12}, False),
        ({"heads": (11,) * 12, "width": 704}, True),
        ({"channels": (0,) * 12}, False),
        ({"heads": (0,) * 12}, False),
    ],
)
def test_plain_is_even_layers_whose_heads_are_as_wide_as_the_tower(changes, is_plain):
    assert TowerShape.parse(PLAIN.model_dump() | changes).is_plain == is_plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": (1, 2)}, "heads for 2 layers but channels for 12"),
        ({"heads": (), "channels": ()}, "at least one layer"),
        ({"heads": (-1,) * 12}, r"heads\.0: input should be greater than or equal to 0"),
        ({"width": 0}, "width: input should be greater than 0"),
        ({"head": 3}, "unknown setting 'head': did you mean 'heads'"),
    ],
)
def test_an_invalid_shape_is_an_error_in_one_line(changes, words):
    with pytest.raises(ValueError, match=rf"\A.*{words}.*\Z"):
        TowerShape.parse(PLAIN.model_dump() | changes)
