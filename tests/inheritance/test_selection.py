"""Selections say shapes, and one after the other is one selection."""

from workbench.config.shape import TowerShape
from workbench.inheritance.selection import TowerSelection, everything

SHAPE = TowerShape(width=6, head_width=4, heads=(3, 2, 3), channels=(5, 6, 4))
FIRST = TowerSelection(layers=(0, 2), embedding=(0, 2, 3, 5), heads=((0, 2), (1, 2)), channels=((1, 2, 4), (0, 3)))
SECOND = TowerSelection(layers=(1,), embedding=(1, 3), heads=((1,),), channels=((),))


def test_everything_is_the_shape_itself():
    assert everything(SHAPE).shape(SHAPE) == SHAPE
    assert everything(SHAPE).by_source_layer(SHAPE) == SHAPE
    assert everything(SHAPE).then(FIRST) == FIRST


def test_layers_that_went_hold_nothing():
    assert FIRST.shape(SHAPE) == TowerShape(width=4, head_width=4, heads=(2, 2), channels=(3, 2))
    assert FIRST.by_source_layer(SHAPE) == TowerShape(width=4, head_width=4, heads=(2, 0, 2), channels=(3, 0, 2))


def test_one_after_another_counts_from_the_first_source():
    both = FIRST.then(SECOND)
    assert both == TowerSelection(layers=(2,), embedding=(2, 5), heads=((2,),), channels=((),))
    assert FIRST.then(everything(FIRST.shape(SHAPE))) == FIRST


def test_a_selection_is_plain_data():
    assert TowerSelection.parse(FIRST.model_dump(mode="json")) == FIRST
