"""Towers are open_clip's with other blocks, and those with uneven layers work like all others."""

import copy
from functools import partial

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import CustomResidualAttentionBlock, QuickGELU, ResidualAttentionBlock
from torch import nn

from workbench.config.inheritance import TowerShape
from workbench.embeddings import FeatureKey
from workbench.models.clip import Clip
from workbench.models.configs import with_shape
from workbench.models.folder import load_folder, save_folder
from workbench.models.image_tower import kept_patches
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.models.towers import Block, build_towers, join_weights, restore_open_clips_blocks, split_weights

IMAGE = TowerShape(width=18, head_width=8, heads=(3, 0, 1), channels=(5, 40, 0))
TEXT = TowerShape(width=10, head_width=4, heads=(0, 2), channels=(0, 9))


@pytest.fixture(params=[False, True], ids=["CLIP", "CustomTextCLIP"])
def uneven(request, config, tokenizer):
    """``uneven(seed)``: a Clip with tables for both towers, in evaluation mode."""
    changed = with_shape(with_shape(config | {"custom_text": request.param}, "image", IMAGE), "text", TEXT)
    return lambda seed=0: Clip(changed, tokenizer, seed=seed).eval()


def test_the_seed_alone_decides_the_weights(uneven):
    first, again, other = uneven(1), uneven(1), uneven(2)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    name = "towers.visual.transformer.resblocks.0.attn.in_proj_weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_a_text_tower_starts_as_open_clips_does(config, tokenizer, with_table):
    config["text_cfg"] |= {"width": 128, "heads": 4, "layers": 3}
    theirs = Clip(config, tokenizer).towers.transformer.state_dict()
    ours = Clip(with_table(config, "text"), tokenizer).towers.transformer.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert float(tensor.std()) == pytest.approx(float(theirs[name].std()), rel=0.1, abs=2e-3), name


@torch.no_grad()
def test_a_folder_brings_it_back(tmp_path, uneven, images):
    model = uneven(3)
    save_folder(model, tmp_path / "model")
    for loaded in (load_folder(tmp_path / "model"), load_model(str(tmp_path / "model"))):
        assert loaded.config == model.config
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
        assert torch.equal(loaded.eval().encode_image(images(3)), model.encode_image(images(3)))
    fresh = load_model(f"config:{tmp_path / 'model' / 'open_clip_config.json'}", seed=5, tokenizer="words:scenes")
    assert fresh.towers.visual.transformer.resblocks[0].attn.in_proj_weight.shape == (3 * 3 * 8, 18)


def test_weights_of_another_shape_are_a_table(uneven, tmp_path):
    save_folder(uneven(), tmp_path)
    path = tmp_path / "open_clip_config.json"
    path.write_text(path.read_text().replace("40", "41"))
    with pytest.raises(ValueError, match=r"reshaped +visual\.transformer\.resblocks\.1\.mlp\.c_fc\.weight"):
        load_folder(tmp_path)


def test_features_and_masks_work(uneven, images):
    model = uneven()
    assert model.block_widths == (18, 18, 18)
    image = images(4)
    keys = [FeatureKey(0, "map"), FeatureKey(-1, "tokens"), FeatureKey(1, "pooled")]
    raw, features = model.encode_image_with_features(image, keys)
    assert torch.equal(raw, model.encode_image(image))
    assert [tuple(features[key].shape) for key in keys] == [(4, 18, 2, 2), (4, 4, 18), (4, 18)]
    assert torch.equal(model.features(image, [1], "pooled")[0], features[keys[2]])
    keep = kept_patches(list("abcd"), model.num_patches, 0.5, 0, 0)
    assert model.encode_image(image, keep).shape == (4, 16)
    assert not torch.allclose(model.encode_image(image, keep), raw)


def test_it_learns_and_it_teaches(uneven, images, captions, tokenizer):
    model = uneven()
    embedded = model.embed(images(3), tokenizer(captions(3)))
    (embedded.scale * (embedded.image_BD @ embedded.text_BD.T)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    teacher = Teacher(uneven(), chunk_size=2)
    assert teacher.embed(images(3), tokenizer(captions(3))).image_BD.shape == (3, 16)


def test_weights_are_split_by_tower_and_joined_again(uneven):
    model = uneven()
    parts = split_weights(model.towers.state_dict())
    assert set(parts[None]) == {"logit_scale"}
    assert "class_embedding" in parts["image"]
    assert {"token_embedding.weight", "positional_embedding", "text_projection"} <= set(parts["text"])
    joined = join_weights(parts, model.towers)
    assert joined.keys() == model.towers.state_dict().keys()
    model.towers.load_state_dict(joined)


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


# Towers of open_clip, by what is special about them. The text tower with a class token has a mask for each pair.
NATIVE = {
    "plain": {},
    "custom text": {"custom_text": True},
    "quick gelu": {"quick_gelu": True},
    "without a class token": {"vision_cfg": {"pool_type": "avg", "final_ln_after_pool": True}},
    "attention pooling": {"vision_cfg": {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}},
    "masked padding": {"custom_text": True, "text_cfg": {"embed_cls": True, "pad_id": 0}},
    "norms without bias": {"vision_cfg": {"norm_kwargs": {"bias": False, "eps": 1e-6}}},
}


def both(config, tokenizer, changes):
    """The workbench's model and open_clip's with the same weights, both in training mode."""
    for section, change in changes.items():
        config[section] = config.get(section, {}) | change if isinstance(change, dict) else change
    model = Clip(config, tokenizer, seed=3).train()
    build = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    theirs = build(**{key: value for key, value in config.items() if key != "custom_text"}).train()
    theirs.load_state_dict(model.towers.state_dict())
    return model.towers, theirs


def embeddings_and_gradients(towers, pixels_BCHW, text_BL):
    """Raw embeddings, and the gradients of CLIP's loss by parameter."""
    image_BD, text_BD = towers.encode_image(pixels_BCHW), towers.encode_text(text_BL)
    logits_BB = 10 * F.normalize(image_BD, dim=1) @ F.normalize(text_BD, dim=1).T
    F.cross_entropy(logits_BB, torch.arange(len(logits_BB))).backward()
    return image_BD, text_BD, {name: p.grad for name, p in towers.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", NATIVE.values(), ids=NATIVE)
def test_native_towers_compute_what_open_clips_do(config, tokenizer, images, captions, changes):
    ours, theirs = both(config, tokenizer, changes)
    for tower in (ours.visual, getattr(ours, "text", ours)):
        assert all(type(block) is Block for block in tower.transformer.resblocks)
    assert list(ours.state_dict()) == list(theirs.state_dict())  # and in the same order, as optimizers number them
    text_BL = tokenizer(captions(6))
    for dtype, tolerance in ((torch.float32, 8e-7), (torch.float64, 1e-12)):
        pixels_BCHW = images(6).to(dtype) / 64 - 2
        models = [copy.deepcopy(towers).to(dtype) for towers in (ours, theirs)]
        image_BD, text_BD, gradients = embeddings_and_gradients(models[0], pixels_BCHW, text_BL)
        their_image_BD, their_text_BD, expected = embeddings_and_gradients(models[1], pixels_BCHW, text_BL)
        if dtype == torch.float32:  # in float64, products of few rows depend on the order of rows, which is another
            assert torch.equal(image_BD, their_image_BD)
            assert torch.equal(text_BD, their_text_BD)
        torch.testing.assert_close((image_BD, text_BD), (their_image_BD, their_text_BD), atol=tolerance, rtol=0)
        assert gradients.keys() == expected.keys()
        largest = max(float(gradient.abs().max()) for gradient in expected.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[name], atol=tolerance * largest, rtol=0, msg=name)


def test_blocks_of_other_functions_stay_open_clips(config, tokenizer):
    config["vision_cfg"] |= {"ls_init_value": 0.1}
    config["text_cfg"] |= {"qk_norm": True, "block_type": "custom"}
    ours, theirs = both(config, tokenizer, {"custom_text": True})
    assert type(ours.visual.transformer.resblocks[0]) is ResidualAttentionBlock
    assert type(ours.text.transformer.resblocks[0]) is CustomResidualAttentionBlock
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_open_clips_blocks_come_back_where_it_has_such_towers(uneven, config, tokenizer):
    model, shaped = Clip(config, tokenizer), uneven()
    before = model.state_dict()
    assert restore_open_clips_blocks(model.towers, config)
    assert type(model.towers.visual.transformer.resblocks[0]) is ResidualAttentionBlock
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert not restore_open_clips_blocks(shaped.towers, shaped.config)
    assert type(shaped.towers.visual.transformer.resblocks[0]) is Block


def test_the_initial_weights_are_open_clips(config):
    torch.manual_seed(7)
    ours = build_towers(config).state_dict()
    torch.manual_seed(7)
    theirs = open_clip.CLIP(**config).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
