"""The workbench's block equals open_clip's where that exists, and loops over heads elsewhere."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from workbench.models.dense import Block


def make_block(width, heads, channels, head_width=4, activation=nn.GELU):
    torch.manual_seed(heads + channels)
    block = Block(
        width,
        heads,
        channels,
        head_width=head_width,
        make_norm=partial(nn.LayerNorm, eps=1e-6),
        make_activation=activation,
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def causal(num_tokens):
    return torch.full((num_tokens, num_tokens), float("-inf")).triu(1)


def by_hand(block, tokens_TC, heads, head_width, mask):
    """One sequence, a head at a time."""
    weights = dict(block.named_parameters())
    normed = F.layer_norm(tokens_TC, tokens_TC.shape[1:], weights["ln_1.weight"], weights["ln_1.bias"], 1e-6)
    query, key, value = (normed @ weights["attn.in_proj_weight"].T + weights["attn.in_proj_bias"]).chunk(3, dim=1)
    output = weights["attn.out_proj.bias"]
    for head in range(heads):
        own = slice(head * head_width, (head + 1) * head_width)
        scores = query[:, own] @ key[:, own].T / head_width**0.5 + mask
        output = output + scores.softmax(1) @ value[:, own] @ weights["attn.out_proj.weight"][:, own].T
    tokens_TC = tokens_TC + output
    normed = F.layer_norm(tokens_TC, tokens_TC.shape[1:], weights["ln_2.weight"], weights["ln_2.bias"], 1e-6)
    hidden = F.gelu(normed @ weights["mlp.c_fc.weight"].T + weights["mlp.c_fc.bias"])
    return tokens_TC + hidden @ weights["mlp.c_proj.weight"].T + weights["mlp.c_proj.bias"]


@torch.no_grad()
@pytest.mark.parametrize(("width", "heads", "channels"), [(12, 3, 20), (13, 3, 1), (7, 1, 5), (5, 4, 30)])
def test_any_width_goes_with_any_number_of_heads_and_channels(width, heads, channels):
    block, tokens_BTC = make_block(width, heads, channels), torch.randn(2, 6, width)
    for mask in (None, causal(6)):
        found = block(tokens_BTC, attn_mask=mask)
        for tokens_TC, output_TC in zip(tokens_BTC, found, strict=True):
            expected = by_hand(block, tokens_TC, heads, 4, 0 if mask is None else mask)
            torch.testing.assert_close(output_TC, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("activation", [nn.GELU, QuickGELU])
def test_it_is_open_clips_block_under_the_same_names(activation):
    theirs = ResidualAttentionBlock(
        16, 4, mlp_ratio=3, act_layer=activation, norm_layer=partial(nn.LayerNorm, eps=1e-6)
    )
    block = make_block(16, 4, 48, activation=activation)
    theirs.load_state_dict(block.state_dict())
    tokens_BTC = torch.randn(3, 5, 16)
    for mask in (None, causal(5)):
        torch.testing.assert_close(block(tokens_BTC, attn_mask=mask), theirs(tokens_BTC, attn_mask=mask))


@torch.no_grad()
def test_a_branch_with_nothing_left_is_its_bias():
    tokens_BTC = torch.randn(2, 3, 8)
    nothing = make_block(8, 0, 0)
    assert {name: tuple(w.shape) for name, w in nothing.named_parameters()} == {"attn.bias": (8,), "mlp.bias": (8,)}
    torch.testing.assert_close(nothing(tokens_BTC), tokens_BTC + nothing.attn.bias + nothing.mlp.bias)
    assert nothing.get_weight_dtype() == torch.float32
    no_heads = make_block(8, 0, 6)
    expected = tokens_BTC + no_heads.attn.bias
    torch.testing.assert_close(no_heads(tokens_BTC), expected + no_heads.mlp(no_heads.ln_2(expected)))


def test_a_block_starts_as_torch_starts_its_attention():
    torch.manual_seed(0)
    norm, gelu = nn.LayerNorm, nn.GELU
    ours = Block(256, 4, 1024, head_width=64, make_norm=norm, make_activation=gelu).state_dict()
    theirs = ResidualAttentionBlock(256, 4).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape
        assert float(tensor.std()) == pytest.approx(float(theirs[name].std()), rel=0.1, abs=2e-3), name


def test_bfloat16_autocast_runs_it():
    block, tokens_BTC = make_block(12, 2, 6), torch.randn(2, 5, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = block(tokens_BTC, attn_mask=causal(5))
    torch.testing.assert_close(rounded.float(), block(tokens_BTC, attn_mask=causal(5)), atol=0.1, rtol=0.1)
