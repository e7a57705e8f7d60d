"""A tower's shape counts its weights and knows when it is an ordinary transformer."""

import pytest

from workbench.config.shape import TowerShape

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
        ({"heads": (1, 2)}, "heads of 2 layers but channels of 12"),
        ({"heads": (), "channels": ()}, "at least one layer"),
        ({"heads": (-1,) * 12}, r"heads\.0: input should be greater than or equal to 0"),
        ({"width": 0}, "width: input should be greater than 0"),
        ({"head": 3}, "unknown setting 'head': did you mean 'heads'"),
    ],
)
def test_a_shape_that_cannot_be_is_one_line(changes, words):
    with pytest.raises(ValueError, match=rf"\A.*{words}.*\Z"):
        TowerShape.parse(PLAIN.model_dump() | changes)
