"""What two selections share, against sets by hand."""

from dataclasses import replace

import pytest

from workbench.config.inheritance import Plan
from workbench.config.shape import TowerShape
from workbench.inheritance.legacy import planned_legacy
from workbench.inheritance.overlap import by_rule, overlaps, overlaps_with_rule
from workbench.inheritance.selection import TowerSelection, everything
from workbench.models.shapes import tower_shape
from workbench.runs.mask_snapshots import MaskSnapshot

SHAPE = TowerShape(width=4, head_width=2, heads=(4, 4), channels=(10, 20))
ONE = TowerSelection(layers=(0, 1), embedding=(0, 1), heads=((0, 1, 2), (3,)), channels=((0, 1), tuple(range(10))))
OTHER = TowerSelection(layers=(1,), embedding=(1, 2, 3), heads=((0, 3),), channels=(tuple(range(8, 20)),))


def test_shares_and_chances_are_those_of_the_sets():
    found = overlaps(ONE, OTHER, SHAPE)
    assert found["embedding"].shared == 1 / 2
    assert found["embedding"].chance == pytest.approx(3 / 4)
    assert found["heads"].shared == 1 / 4
    assert found["heads"].chance == pytest.approx((0 + 1 * 2 / 4) / 4)
    assert found["channels"].shared == 2 / 12
    assert found["channels"].chance == pytest.approx((0 + 10 * 12 / 20) / 12)


def test_a_selection_shares_all_with_itself_and_with_everything():
    for other in (ONE, everything(SHAPE)):
        assert {overlap.shared for overlap in overlaps(ONE, other, SHAPE).values()} == {1.0}
    assert overlaps(ONE, everything(SHAPE), SHAPE)["channels"].chance == 1
    nothing = ONE.model_copy(update={"heads": ((), ())})
    assert overlaps(nothing, ONE, SHAPE)["heads"].shared == 1


@pytest.mark.parametrize("rule", ["leading", "magnitude"])
def test_a_rule_chooses_as_many_of_each(make_teacher, rule):
    teacher = make_teacher()
    source = tower_shape(teacher.config, "text")
    learnt = everything(source).model_copy(
        update={"embedding": (3, 7, 8), "heads": ((0,), (), (1, 3)), "channels": ((5, 9), (0, 1, 95), ())}
    )
    chosen = by_rule(teacher, {"text": learnt}, rule)["text"]
    assert chosen.shape(source) == learnt.shape(source)
    assert (chosen.embedding == (0, 1, 2)) == (rule == "leading")
    assert 0 <= overlaps(learnt, chosen, source)["heads"].shared <= 1


def test_what_a_rule_chose_is_all_that_the_rule_would_keep(make_teacher):
    teacher = make_teacher()
    plan = Plan.parse({"text": {"width": 16, "heads": 1, "channels": 9, "width_rule": "magnitude"}})
    snapshot = planned_legacy(teacher, plan).snapshot(0, 0)
    ruled = overlaps_with_rule(teacher, snapshot, "magnitude")
    assert {overlap.shared for overlap in ruled["text"].values()} == {1.0}
    leading = overlaps_with_rule(teacher, snapshot, "leading")
    assert leading["text"]["channels"].shared < 1
    assert leading["text"]["channels"].chance == ruled["text"]["channels"].chance
    assert leading["image"]["heads"].shared == 1  # nothing went there


def test_a_rule_needs_the_teacher_that_the_masks_are_of(make_teacher):
    teacher = make_teacher()
    mask = planned_legacy(teacher, Plan.parse({"text": {"depth": 1}})).snapshot(0, 0).towers["text"]
    other = mask.teacher.model_copy(update={"head_width": mask.teacher.head_width + 1})
    foreign = MaskSnapshot(0, 0, False, 0.5, 0.5, {"text": replace(mask, teacher=other)})
    with pytest.raises(ValueError, match="has changed since"):
        overlaps_with_rule(teacher, foreign, "leading")
