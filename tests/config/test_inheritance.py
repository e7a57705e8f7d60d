"""Plans and gates as they stand in TOML: amounts, lists, and settings that would have no effect."""

import tomllib

import pytest
import tomli_w

from workbench.config.inheritance import GatesConfig, Plan, TowerPlan


def test_a_plan_survives_toml():
    table = {
        "image": {"depth": [0, 2, 4], "width": 0.5, "width_rule": "magnitude"},
        "text": {"depth": 8, "depth_rule": "released_stride"},
    }
    plan = Plan.parse(table)
    assert plan.image.depth == (0, 2, 4)
    assert plan.image.width == 0.5
    assert Plan.parse(tomllib.loads(tomli_w.dumps(plan.model_dump()))) == plan


def test_nothing_said_keeps_all():
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


def test_gates_of_a_shorter_run_can_travel_as_far():
    short = GatesConfig(ramp_steps=1000, learning_rate=0.02).stretched(0.1)
    assert (short.ramp_steps, short.learning_rate) == (100, pytest.approx(0.2))
    assert GatesConfig(ramp_steps=3).stretched(0.01).ramp_steps == 1


@pytest.mark.parametrize(
    ("name", "value"), [("sparsity", 0), ("sparsity", 1), ("constraint", "both"), ("ramp_steps", 0)]
)
def test_gates_that_make_no_sense_are_one_line(name, value):
    with pytest.raises(ValueError, match=rf"\A{name}: input should be .*\Z"):
        GatesConfig.parse({name: value})
