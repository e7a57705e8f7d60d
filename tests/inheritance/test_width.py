"""How wide a plan makes a tower, and which channels it keeps by either rule."""

import pytest
import torch

from workbench.config.inheritance import TowerPlan
from workbench.config.shape import TowerShape
from workbench.inheritance.manual import blocks_of
from workbench.inheritance.scores import channel_magnitudes, embedding_magnitudes, head_magnitudes
from workbench.inheritance.width import choose_channels, choose_widths

VIT = TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)
UNEVEN = TowerShape(width=100, head_width=64, heads=(3, 0, 1), channels=(40, 7, 0))
ALL = tuple(range(12))


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, (768, 12, 3072)),
        ({"width": 640}, (640, 10, 2560)),  # Table 11, number 8
        ({"width": 0.5}, (384, 6, 1536)),
        ({"width": 600, "heads": 9}, (600, 9, 2400)),
        ({"width": 640, "channels": 1000}, (640, 10, 1000)),
        ({"heads": 8}, (768, 8, 3072)),
        ({"heads": 0.5, "channels": 0.25}, (768, 6, 768)),
        ({"width": 768}, (768, 12, 3072)),
    ],
)
def test_heads_and_channels_follow_the_width_unless_said(plan, expected):
    width, heads, channels = expected
    shape = choose_widths(TowerPlan(**plan), VIT, ALL)
    assert shape == TowerShape(width=width, head_width=64, heads=(heads,) * 12, channels=(channels,) * 12)


def test_an_uneven_tower_keeps_what_its_layers_have():
    assert choose_widths(TowerPlan(width=50), UNEVEN, (0, 2)) == TowerShape(
        width=50, head_width=64, heads=(3, 1), channels=(40, 0)
    )
    assert choose_widths(TowerPlan(heads=2, channels=0.5), UNEVEN, (0, 1, 2)) == TowerShape(
        width=100, head_width=64, heads=(2, 0, 1), channels=(20, 4, 0)
    )


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"width": 600}, "width 600 is not a multiple of the head size 64: choose 576 or 640, or say how many heads"),
        ({"width": 30}, "width 30 is not a multiple of the head size 64: choose 64, or say how many heads"),
        ({"width": 769}, "width 769: the teacher has 768 embedding channels, choose 1 to 768"),
        ({"heads": 13}, "heads 13: the teacher has 12 heads in a layer, choose 1 to 12"),
        ({"channels": 4000}, "channels 4000: the teacher has 3072 channels in a layer"),
    ],
)
def test_a_width_that_cannot_be_says_why(plan, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        choose_widths(TowerPlan(**plan), VIT, ALL)


@pytest.fixture
def tower(make_teacher):
    """The teacher's image tower: its shape and the weights of its blocks."""
    return TowerShape(width=32, head_width=8, heads=(4,) * 4, channels=(128,) * 4), blocks_of(make_teacher(), "image")


def test_the_leading_ones_lead(tower):
    shape, blocks = tower
    target = TowerShape(width=16, head_width=8, heads=(2, 1), channels=(64, 3))
    chosen = choose_channels("leading", shape, target, (1, 3), [blocks[1], blocks[3]])
    assert chosen.embedding == tuple(range(16))
    assert chosen.heads == ((0, 1), (0,))
    assert chosen.channels == (tuple(range(64)), (0, 1, 2))
    assert chosen.shape(shape) == target


def test_magnitude_keeps_the_largest_of_the_layers_that_stay(tower):
    shape, blocks = tower
    target = TowerShape(width=16, head_width=8, heads=(2, 1), channels=(64, 3))
    kept = [blocks[1], blocks[3]]
    chosen = choose_channels("magnitude", shape, target, (1, 3), kept)
    assert chosen.shape(shape) == target
    scores = [(embedding_magnitudes(kept), chosen.embedding)]
    for number, block in enumerate(kept):
        scores += [
            (head_magnitudes(block, 8), chosen.heads[number]),
            (channel_magnitudes(block), chosen.channels[number]),
        ]
    for score, numbers in scores:
        largest = score.argsort(descending=True)[: len(numbers)]
        assert sorted(largest.tolist()) == list(numbers)
    assert not torch.equal(torch.tensor(chosen.embedding), torch.arange(16))
