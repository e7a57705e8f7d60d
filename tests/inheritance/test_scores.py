"""Scores against sums over single weights, and what a block does to data against hooks of its own."""

import math

import pytest
import torch

from workbench.inheritance.manual import blocks_of
from workbench.inheritance.scores import (
    block_influence,
    channel_magnitudes,
    embedding_magnitudes,
    head_magnitudes,
    layer_loudness,
)


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


def test_loudness_is_the_product_of_a_branchs_matrices(block):
    value = block["attn.in_proj_weight"][64:] * block["ln_1.weight"]
    inward = block["mlp.c_fc.weight"] * block["ln_2.weight"]
    attention = norm(value) * norm(block["attn.out_proj.weight"])
    perceptron = norm(inward) * norm(block["mlp.c_proj.weight"])
    assert layer_loudness(block) == pytest.approx(math.hypot(attention, perceptron), rel=1e-5)
    doubled = block | {"attn.out_proj.weight": 2 * block["attn.out_proj.weight"]}
    assert layer_loudness(doubled) == pytest.approx(math.hypot(2 * attention, perceptron), rel=1e-5)
    assert layer_loudness({"attn.bias": torch.ones(3), "mlp.bias": torch.ones(3)}) == 0


def test_influence_is_how_far_tokens_turn(make_teacher, inputs):
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
