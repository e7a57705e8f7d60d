"""Image-tower features equal open_clip's, in three forms, from one forward."""

from functools import partial

import pytest
import torch
from torch import nn

from workbench.embeddings import FeatureKey
from workbench.models.clip import Clip
from workbench.models.image_tower import kept_patches

RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 16}
VIT = {"image_size": 32, "layers": 3}
SIZES = {"vit": 32, "resnet": 64}


@pytest.fixture
def make_model(config, tokenizer):
    """``make_model("vit" or "resnet", **vision)``: 3 blocks of 32 channels on 4 x 4 patches, or a ResNet's four stages.

    Batch norms are scaled at random, because open_clip starts every residual branch of a ResNet at zero.
    """

    def make(kind, **vision):
        config["vision_cfg"] = (RESNET if kind == "resnet" else config["vision_cfg"] | VIT) | vision
        model = Clip(config, tokenizer).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(module.num_features))
        return model

    return make


def encode(model, image, blocks, form, keep=None):
    """The embeddings and the features of some blocks of one form, in their order."""
    keys = [FeatureKey(block, form) for block in blocks]
    raw, features = model.encode_image_with_features(image, keys, keep)
    return raw, tuple(features[key] for key in keys)


def intermediates(model, image, **options):
    return model.towers.visual.forward_intermediates((image.float() - model._mean) / model._std, **options)


def test_the_features_of_a_vit_are_open_clips(make_model, images):
    model, image = make_model("vit"), images(3, 32)
    maps = intermediates(model, image)["image_intermediates"]
    tokens = intermediates(model, image, output_fmt="NLC", output_extra_tokens=True)
    for form, expected in (
        ("map", maps),
        ("tokens", tokens["image_intermediates"]),
        ("pooled", [prefix[:, 0] for prefix in tokens["image_intermediates_prefix"]]),
    ):
        found = model.features(image, [0, 1, 2], form)
        assert len(found) == len(expected) == 3
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert maps[0].shape == (3, 32, 4, 4)


def test_the_features_of_a_resnet_are_open_clips(make_model, images):
    model, image = make_model("resnet"), images(3, 64)
    _, *maps = intermediates(model, image)["image_intermediates"]
    assert [stage.shape for stage in maps] == [(3, 32, 16, 16), (3, 64, 8, 8), (3, 128, 4, 4), (3, 256, 2, 2)]
    found = {form: model.features(image, range(4), form) for form in ("map", "tokens", "pooled")}
    for number, stage in enumerate(maps):
        assert torch.equal(found["map"][number], stage)
        rows = torch.stack([stage[:, :, y, x] for y in range(stage.shape[2]) for x in range(stage.shape[3])], dim=1)
        assert torch.equal(found["tokens"][number], rows)
        torch.testing.assert_close(found["pooled"][number], stage.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("vision", "by_class"),
    [({}, True), ({"pool_type": "avg"}, False), ({"attentional_pool": True, "attn_pooler_heads": 2}, False)],
    ids=["class token", "mean", "attention"],
)
def test_pooled_is_the_class_token_only_where_the_tower_pools_by_it(make_model, images, vision, by_class):
    model, image = make_model("vit", **vision), images(2, 32)
    (pooled,), (tokens,) = (model.features(image, [1], form) for form in ("pooled", "tokens"))
    prefix = intermediates(model, image, output_extra_tokens=True)["image_intermediates_prefix"][1][:, 0]
    torch.testing.assert_close(pooled, prefix if by_class else tokens.mean(dim=1))
    assert torch.equal(pooled, prefix) == by_class


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("form", ["map", "tokens", "pooled"])
def test_one_forward_gives_the_embeddings_and_the_features(make_model, images, kind, form):
    model, image = make_model(kind), images(3, SIZES[kind])
    forwards = []
    model.towers.visual.register_forward_pre_hook(lambda *_: forwards.append(1))
    expected = model.encode_image(image)
    raw, found = encode(model, image, [-1, 0, -1], form)
    assert len(forwards) == 2
    assert torch.equal(raw, expected)
    alone = model.features(image, [model_blocks(model) - 1, 0, -1], form)
    assert len(found) == 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, alone, strict=True))
    assert torch.equal(found[0], found[2])
    assert torch.equal(model.encode_image(image), expected)  # the hooks are gone
    assert not any(module._forward_hooks for module in model.modules())


def model_blocks(model):
    return len(model.block_widths)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_negative_numbers_count_from_the_end(make_model, images, kind):
    model, image = make_model(kind), images(1, SIZES[kind])
    count = model_blocks(model)
    from_start = model.features(image, range(count), "map")
    assert all(torch.equal(model.features(image, [n - count], "map")[0], from_start[n]) for n in range(count))
    both = model.features(image, [-1, 0], "map")
    assert torch.equal(both[0], from_start[-1])
    assert torch.equal(both[1], from_start[0])


@pytest.mark.parametrize(("kind", "widths"), [("vit", (32, 32, 32)), ("resnet", (32, 64, 128, 256))])
def test_the_widths_are_those_of_the_features(make_model, images, kind, widths):
    model = make_model(kind)
    assert model.block_widths == widths
    found = model.features(images(1, SIZES[kind]), range(len(widths)), "pooled")
    assert tuple(feature.shape[1] for feature in found) == widths


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_gradients_flow_from_the_features_and_stop_at_their_block(make_model, images, kind):
    model, image = make_model(kind), images(2, SIZES[kind])
    for (feature,) in (model.features(image, [1], "map"), encode(model, image, [1], "map")[1]):
        model.zero_grad()
        feature.square().sum().backward()
        touched = {name for name, parameter in model.towers.visual.named_parameters() if parameter.grad is not None}
        assert "conv1.weight" in touched
        assert any("resblocks.1." in name or "layer2" in name for name in touched)
        assert not any("resblocks.2." in name or "layer3" in name or "attnpool" in name for name in touched)


def test_blocks_behind_the_last_one_asked_for_do_not_run(make_model, images):
    for kind, later in (("vit", "transformer.resblocks.2"), ("resnet", "layer3")):
        model = make_model(kind)
        model.towers.visual.get_submodule(later).register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
        model.features(images(1, SIZES[kind]), [0, 1], "pooled")


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (128, 64)])
def test_a_convolutional_tower_has_features_at_any_resolution(make_model, height, width):
    image = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    coarse, fine = make_model("resnet").features(image, [3, 0], "map")
    assert coarse.shape == (2, 256, height // 32, width // 32)
    assert fine.shape == (2, 32, height // 4, width // 4)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48), (16, 80)])
def test_a_vit_has_features_at_any_multiple_of_its_patches(make_model, height, width):
    model, patch = make_model("vit"), make_model("vit").towers.visual.patch_size[0]
    (found,) = model.features(torch.zeros(2, 3, height, width, dtype=torch.uint8), [-1], "map")
    assert found.shape[2:] == (height // patch, width // patch)


def test_positions_are_interpolated_as_open_clip_does_when_it_loads_a_checkpoint(make_model, images):
    from open_clip import CLIP
    from open_clip.model import resize_pos_embed

    model, image = make_model("vit"), images(2, 64)
    before = {name: tensor.clone() for name, tensor in model.towers.state_dict().items()}
    config = {key: value for key, value in model.config.items() if key not in ("tokenizer", "custom_text")}
    larger = CLIP(**config | {"vision_cfg": {**config["vision_cfg"], "image_size": 64}})
    weights = dict(before)
    resize_pos_embed(weights, larger)
    larger.load_state_dict(weights)
    (found,) = model.features(image, [-1], "map")
    expected = larger.visual.forward_intermediates(model._normalized(image), indices=[-1])["image_intermediates"][0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert list(model.towers.state_dict()) == list(before)  # the names stay, and their order
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.towers.state_dict().items())


def test_sizes_that_are_no_multiple_of_a_vits_patches_are_refused(make_model):
    with pytest.raises(ValueError, match=r"^images of 36 x 32 for a ViT with patches of .*: resize or pad them"):
        make_model("vit").features(torch.zeros(1, 3, 36, 32, dtype=torch.uint8), [0], "map")


@pytest.mark.parametrize("pool_type", ["tok", "avg"])
def test_a_masked_vit_has_pooled_features_of_its_kept_tokens(make_model, images, pool_type):
    model, image = make_model("vit", pool_type=pool_type), images(3, 32)
    keep = kept_patches(["a", "b", "c"], 16, 0.5, 0, 0)
    outputs = []
    hook = model.towers.visual.transformer.resblocks[1].register_forward_hook(lambda *given: outputs.append(given[2]))
    raw, (pooled,) = encode(model, image, [1], "pooled", keep)
    hook.remove()
    (tokens,) = outputs
    assert tokens.shape == (3, 1 + 8, 32)
    torch.testing.assert_close(pooled, tokens[:, 0] if pool_type == "tok" else tokens[:, 1:].mean(dim=1))
    assert torch.equal(raw, model.encode_image(image, keep))
    for form in ("map", "tokens"):
        with pytest.raises(ValueError, match=r"^only 8 of 16 patches are kept, .* in the form 'pooled'$"):
            encode(model, image, [1], form, keep)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_masked_resnet_has_features_in_every_form(make_model, images):
    model, image = make_model("resnet"), images(2, 64)
    keep = kept_patches(["a", "b"], 49, 0.5, 0, 0)
    raw, (masked,) = encode(model, image, [0], "map", keep)
    _, (whole,) = encode(model, image, [0], "map")
    assert masked.shape == whole.shape
    assert not torch.equal(masked, whole)
    assert torch.equal(raw, model.encode_image(image, keep))


def test_tokens_of_a_tower_that_drops_some_itself_are_refused(make_model, images):
    model = make_model("vit", patch_dropout=0.5).train()
    with pytest.raises(ValueError, match=r"^only 8 of 16 patches are kept"):
        model.features(images(2, 32), [0], "tokens")
    assert model.features(images(2, 32), [0], "pooled")[0].shape == (2, 32)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_features_under_autocast_come_out_in_float32(make_model, images, kind):
    model, image = make_model(kind), images(2, SIZES[kind])
    exact = model.features(image, [0, 1], "pooled")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = model.features(image, [0, 1], "pooled")
        raw, beside = encode(model, image, [0, 1], "pooled")
    assert raw.dtype == torch.float32
    for ours, other, reference in zip(alone, beside, exact, strict=True):
        assert ours.dtype == other.dtype == torch.float32
        assert torch.equal(ours, other)
        torch.testing.assert_close(ours, reference, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("kind", "block", "words"),
    [
        ("vit", 3, "no block 3 in an image tower of 3: choose 0 to 2, or -1 to -3 from the end"),
        ("vit", -4, "no block -4 in an image tower of 3: choose 0 to 2, or -1 to -3 from the end"),
        ("resnet", 4, "no block 4 in an image tower of 4: choose 0 to 3, or -1 to -4 from the end"),
    ],
)
def test_a_block_that_is_not_there_is_refused(make_model, images, kind, block, words):
    model, image = make_model(kind), images(1, SIZES[kind])
    for ask in (model.features, partial(encode, model)):
        with pytest.raises(ValueError, match=f"^{words}$"):
            ask(image, [0, block], "pooled")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_form_that_is_not_there_offers_the_nearest(make_model, images):
    with pytest.raises(ValueError, match=r"^unknown form of features 'token': did you mean 'tokens'\?$"):
        make_model("vit").features(images(1, 32), [0], "token")


def test_a_tower_without_blocks_is_refused_with_those_that_have_some(config, tokenizer, images):
    config["vision_cfg"] = {"image_size": 32, "timm_model_name": "test_resnet", "timm_pool": "avg"}
    model = Clip(config, tokenizer).eval()
    words = r"^no inner features of a TimmModel: choose .* VisionTransformer \(its residual blocks\) or ModifiedResNet"
    with pytest.raises(ValueError, match=words):
        _ = model.block_widths
    for ask in (model.features, partial(encode, model)):
        with pytest.raises(ValueError, match=words):
            ask(images(1, 32), [0], "pooled")


def test_no_blocks_give_no_features(make_model, images):
    for kind, size in SIZES.items():
        model, image = make_model(kind), images(1, size)
        assert model.features(image, [], "map") == encode(model, image, [], "map")[1] == ()
