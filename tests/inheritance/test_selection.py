"""Selections of layers, heads and channels: shapes, composition and rules."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.inheritance import TowerPlan, TowerShape
from workbench.inheritance.manual import blocks_of
from workbench.inheritance.selection import (
    TowerSelection,
    block_influence,
    channel_magnitudes,
    choose_channels,
    choose_layers,
    choose_widths,
    embedding_magnitudes,
    full_selection,
    head_magnitudes,
    weight_importance,
)

SHAPE = TowerShape(width=6, head_width=4, heads=(3, 2, 3), channels=(5, 6, 4))
FIRST = TowerSelection(layers=(0, 2), embedding=(0, 2, 3, 5), heads=((0, 2), (1, 2)), channels=((1, 2, 4), (0, 3)))
SECOND = TowerSelection(layers=(1,), embedding=(1, 3), heads=((1,),), channels=((),))


def test_everything_is_the_shape_itself():
    assert full_selection(SHAPE).shape(SHAPE) == SHAPE
    assert full_selection(SHAPE).then(FIRST) == FIRST


def test_the_shape_counts_what_stays():
    assert FIRST.shape(SHAPE) == TowerShape(width=4, head_width=4, heads=(2, 2), channels=(3, 2))


def test_one_after_another_counts_from_the_first_source():
    both = FIRST.then(SECOND)
    assert both == TowerSelection(layers=(2,), embedding=(2, 5), heads=((2,),), channels=((),))
    assert FIRST.then(full_selection(FIRST.shape(SHAPE))) == FIRST


def test_a_selection_is_plain_data():
    assert TowerSelection.parse(FIRST.model_dump(mode="json")) == FIRST


FLAT = [1.0] * 40


def layers(num_layers, depth, rule="even", scores=FLAT):
    return choose_layers(TowerPlan(depth=depth, depth_rule=rule), num_layers, scores[:num_layers])


@pytest.mark.parametrize(
    ("num_layers", "kept", "expected"),
    [
        (12, 8, range(8)),  # the step is 1, so the last layers go: Table 11's case
        (12, 9, range(9)),
        (9, 6, range(6)),
        (12, 6, range(0, 12, 2)),
        (12, 4, range(0, 12, 3)),
        (12, 5, (0, 2, 4, 6, 8)),
        (12, 1, (0,)),
    ],
)
def test_the_released_stride(num_layers, kept, expected):
    assert layers(num_layers, kept, "released_stride") == tuple(expected)


@pytest.mark.parametrize(
    ("num_layers", "kept", "expected"),
    [(12, 2, (0, 11)), (12, 3, (0, 6, 11)), (12, 8, (0, 2, 3, 5, 6, 8, 9, 11)), (5, 4, (0, 1, 3, 4)), (4, 1, (0,))],
)
def test_even_is_truly_spread(num_layers, kept, expected):
    assert layers(num_layers, kept) == expected


@given(st.integers(2, 40), st.data())
def test_even_reaches_from_the_first_to_the_last_in_steps_that_differ_by_one_at_most(num_layers, data):
    kept = data.draw(st.integers(2, num_layers))
    chosen = layers(num_layers, kept)
    steps = [after - before for before, after in pairwise(chosen)]
    assert (chosen[0], chosen[-1], len(chosen)) == (0, num_layers - 1, kept)
    assert min(steps) >= 1
    assert max(steps) - min(steps) <= 1


def test_the_first_the_last_a_list_and_the_most_important():
    assert layers(6, 2, "first") == (0, 1)
    assert layers(6, 2, "last") == (4, 5)
    assert layers(6, [1, 2, 5]) == (1, 2, 5)
    assert layers(6, 3, "importance", [0.1, 5, 3, 0.2, 4, 0]) == (1, 2, 4)
    assert layers(4, 2, "importance") == (0, 1)  # of equal ones the first


@pytest.mark.parametrize(("depth", "kept"), [(0, 12), (0.5, 6), (0.99, 12), (0.01, 1), (12, 12)])
def test_amounts_are_numbers_or_shares(depth, kept):
    assert len(layers(12, depth)) == kept


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (13, "depth 13: the teacher has 12 layers, choose 1 to 12"),
        ([0, 12], "depth names layer 12: the teacher has layers 0 to 11"),
        ([3, 1], r"depth names layers \[3, 1\]: name each once, in ascending order"),
        ([1, 1], r"depth names layers \[1, 1\]: name each once, in ascending order"),
    ],
)
def test_layers_that_are_not_there_are_refused(depth, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        layers(12, depth)


@pytest.fixture
def block(make_teacher):
    """The third block of the image tower: width 32, 4 heads of 8, 128 FFN channels."""
    return blocks_of(make_teacher(), "image")[2]


def norm(*tensors):
    return math.sqrt(sum(float(number) ** 2 for tensor in tensors for number in tensor.flatten()))


def test_a_heads_magnitude_is_that_of_all_its_weights(block):
    found = head_magnitudes(block, 8)
    query, key, value = block["attn.in_proj_weight"].chunk(3)
    for head in range(4):
        own = slice(8 * head, 8 * head + 8)
        expected = norm(query[own], key[own], value[own], block["attn.out_proj.weight"][:, own])
        assert float(found[head]) == pytest.approx(expected, rel=1e-5)


def test_a_channels_magnitude_is_that_of_its_row_and_column(block):
    found = channel_magnitudes(block)
    for channel in (0, 17, 127):
        expected = norm(block["mlp.c_fc.weight"][channel], block["mlp.c_proj.weight"][:, channel])
        assert float(found[channel]) == pytest.approx(expected, rel=1e-5)


def test_an_embedding_channels_magnitude_is_over_all_blocks(make_teacher):
    blocks = blocks_of(make_teacher(), "text")
    found = embedding_magnitudes(blocks)
    for channel in (0, 23):
        parts = [block[name][:, channel] for block in blocks for name in ("attn.in_proj_weight", "mlp.c_fc.weight")]
        parts += [block[name][channel] for block in blocks for name in ("attn.out_proj.weight", "mlp.c_proj.weight")]
        assert float(found[channel]) == pytest.approx(norm(*parts), rel=1e-5)


def test_weight_importance_is_the_product_of_a_branchs_norms(block):
    value = block["attn.in_proj_weight"][64:] * block["ln_1.weight"]
    inward = block["mlp.c_fc.weight"] * block["ln_2.weight"]
    attention = norm(value) * norm(block["attn.out_proj.weight"])
    perceptron = norm(inward) * norm(block["mlp.c_proj.weight"])
    assert weight_importance(block) == pytest.approx(math.hypot(attention, perceptron), rel=1e-5)
    doubled = block | {"attn.out_proj.weight": 2 * block["attn.out_proj.weight"]}
    assert weight_importance(doubled) == pytest.approx(math.hypot(2 * attention, perceptron), rel=1e-5)
    assert weight_importance({"attn.bias": torch.ones(3), "mlp.bias": torch.ones(3)}) == 0


def test_block_influence_is_one_minus_the_mean_cosine(make_teacher, inputs):
    teacher = make_teacher().train()
    blocks = teacher.towers.visual.transformer.resblocks
    with torch.no_grad():
        for parameter in blocks[1].parameters():
            parameter.zero_()
    found = block_influence(teacher, *inputs)
    assert [len(found["image"]), len(found["text"])] == [4, 3]
    assert found["image"][1] == pytest.approx(0, abs=1e-6)
    assert min(found["image"][0], *found["text"]) > 0.01
    assert teacher.training
    assert not any(block._forward_hooks for block in blocks)
    tokens = []
    hook = blocks[0].register_forward_hook(lambda _, inputs, output: tokens.extend([inputs[0], output]))
    with torch.no_grad():
        teacher.eval().encode_image(inputs[0])
    hook.remove()
    cosines = [
        float(a @ b / a.norm() / b.norm())
        for a, b in zip(tokens[0].flatten(0, 1), tokens[1].flatten(0, 1), strict=True)
    ]
    assert found["image"][0] == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-5)


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
def test_heads_and_channels_follow_the_width_by_default(plan, expected):
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
        ({"width": 600}, "width 600 is not a multiple of the head size 64: choose 576 or 640, .*heads="),
        ({"width": 30}, "width 30 is not a multiple of the head size 64: choose 64, .*heads="),
        ({"width": 769}, "width 769: the teacher has 768 embedding channels, choose 1 to 768"),
        ({"heads": 13}, "heads 13: the teacher has 12 heads in a layer, choose 1 to 12"),
        ({"channels": 4000}, "channels 4000: the teacher has 3072 channels in a layer"),
    ],
)
def test_an_impossible_width_names_the_reason(plan, words):
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
