"""A masked student sees and computes the kept patches only; they depend on seed, step and key."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import Normalize

from workbench.models.clip import Clip
from workbench.models.image_tower import keep_blocks, keep_tokens, kept_patches

KEYS = [f"pair{number:04d}" for number in range(12)]
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
TIMM = {"image_size": 32, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"}


@pytest.fixture
def make_vit(config, tokenizer):
    """``make_vit(side, **vision)``: a ViT of side² patches in evaluation mode."""

    def make(side=4, custom_text=False, **vision):
        config["vision_cfg"] |= {"image_size": 8 * side} | vision
        return Clip(config | {"custom_text": custom_text}, tokenizer).eval()

    return make


@settings(deadline=None)
@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.integers(0, 2**31), st.integers(0, 10**6))
def test_every_pair_keeps_as_many_patches_all_different_and_in_order(num_patches, ratio, seed, step):
    kept = kept_patches(KEYS[:3], num_patches, ratio, seed, step)
    num_kept = max(1, int(num_patches * (1 - ratio)))
    if num_kept == num_patches:
        assert kept is None
        return
    assert (kept.shape, kept.dtype) == ((3, num_kept), torch.int64)
    assert bool((kept.diff(dim=1) > 0).all())
    assert 0 <= int(kept.min()) <= int(kept.max()) < num_patches


def test_the_masks_are_pinned_so_that_runs_repeat_on_every_machine_and_version():
    assert kept_patches(["000017", "b"], 9, 0.5, seed=3, step=40).tolist() == [[0, 3, 4, 7], [3, 5, 6, 8]]


def test_a_ratio_of_zero_drops_nothing():
    assert kept_patches(KEYS, 36, 0, 0, 0) is None


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan")])
def test_a_ratio_that_leaves_nothing_or_more_than_all_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"^mask ratio {ratio}: choose at least 0 .* and less than 1 \(drop all\)$"):
        kept_patches(KEYS, 36, ratio, 0, 0)


def test_a_pairs_mask_does_not_depend_on_its_batch():
    whole = kept_patches(KEYS, 36, 0.5, 7, 3)
    for start, stop in ((0, 1), (0, 12), (3, 8), (11, 12)):
        assert torch.equal(kept_patches(KEYS[start:stop], 36, 0.5, 7, 3), whole[start:stop])
    assert torch.equal(kept_patches(KEYS[::-1], 36, 0.5, 7, 3), whole.flip(0))


def test_another_seed_step_or_key_gives_another_mask():
    masks = {
        tuple(row) for seed in range(5) for step in range(5) for row in kept_patches(KEYS, 36, 0.5, seed, step).tolist()
    }
    assert len(masks) == 5 * 5 * 12


def test_what_a_higher_ratio_keeps_a_lower_one_keeps_too():
    few, many = kept_patches(KEYS, 36, 0.75, 0, 1), kept_patches(KEYS, 36, 0.25, 0, 1)
    for row, larger in zip(few.tolist(), many.tolist(), strict=True):
        assert set(row) < set(larger)


def test_every_patch_and_every_pair_of_patches_is_kept_equally_often():
    num_pairs, num_patches, num_kept = 4000, 9, 3
    kept = kept_patches([str(number) for number in range(num_pairs)], num_patches, 2 / 3, 0, 0)
    seen = torch.zeros(num_pairs, num_patches, dtype=torch.float64).scatter_(1, kept, 1)
    together = seen.T @ seen / num_pairs
    single, double = num_kept / num_patches, num_kept / num_patches * (num_kept - 1) / (num_patches - 1)
    expected = torch.full((num_patches, num_patches), double, dtype=torch.float64).fill_diagonal_(single)
    error = (expected * (1 - expected) / num_pairs).sqrt()
    assert float(((together - expected).abs() / error).max()) < 4


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("pool_type", ["tok", "avg"])
@torch.no_grad()
def test_a_vit_puts_out_what_its_kept_tokens_alone_give(make_vit, images, custom_text, pool_type):
    model = make_vit(custom_text=custom_text, pool_type=pool_type)
    assert (model.num_patches, model.drops_tokens) == (16, True)
    keep = kept_patches(KEYS[:5], 16, 0.6, 0, 0)
    visual, image, normalise = model.towers.visual, images(5, 32), Normalize(model.mean, model.std)
    expected = []
    for number in range(5):  # by hand, one image at a time
        pixels = normalise(image[number] / 255)
        rows = visual.conv1(pixels[None]).flatten(2)[0].T + visual.positional_embedding[1:]
        first = visual.class_embedding + visual.positional_embedding[0]
        tokens = torch.stack([first, *(rows[patch] for patch in keep[number].tolist())])[None]
        out = visual.ln_post(visual.transformer(visual.ln_pre(tokens)))[0]
        expected.append((out[0] if pool_type == "tok" else out[1:].mean(dim=0)) @ visual.proj)
    torch.testing.assert_close(model.encode_image(image, keep), torch.stack(expected), atol=1e-5, rtol=0)


def test_the_transformer_sees_the_class_token_and_the_kept_patches(make_vit, images):
    model = make_vit()
    seen = []
    model.towers.visual.ln_pre.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    keep = kept_patches(KEYS[:3], 16, 0.75, 0, 0)
    model.encode_image(images(3, 32))
    model.encode_image(images(3, 32), keep)
    whole, kept = seen
    assert kept.shape == (3, 1 + 4, 32)
    assert torch.equal(kept[:, 0], whole[:, 0])
    for row, all_rows, patches in zip(kept, whole, keep, strict=True):
        assert torch.equal(row[1:], all_rows[1:][patches])


@torch.no_grad()
def test_compute_falls_in_proportion_to_the_kept_tokens(make_vit, images):
    model, image = make_vit(side=8), images(1, 64)

    def flops(num_kept):
        keep = None if num_kept == 64 else torch.arange(num_kept)[None]
        with FlopCounterMode(display=False) as counter:
            model.encode_image(image, keep)
        counts = counter.get_flop_counts()["Global"]
        assert counts
        # The convolution runs before tokens are dropped, and attention falls with their square.
        return sum(count for operator, count in counts.items() if "mm" in str(operator))

    whole = flops(64)
    for num_kept in (16, 32, 48):
        assert flops(num_kept) / whole == pytest.approx((1 + num_kept) / (1 + 64), rel=0.1)


@pytest.mark.parametrize("vision", [{}, RESNET, TIMM], ids=["vit", "resnet", "timm"])
def test_without_a_mask_every_bit_is_as_open_clip_has_it_before_and_after(config, tokenizer, images, vision):
    config["vision_cfg"] |= {"image_size": 32}
    model = Clip(config | ({"vision_cfg": vision} if vision else {}), tokenizer).eval()
    image = images(3, 32)
    expected = model.towers.encode_image((image.float() - model._mean) / model._std)
    keep = kept_patches(KEYS[:3], model.num_patches, 0.5, 0, 0)
    assert torch.equal(model.encode_image(image), expected)
    assert not torch.equal(model.encode_image(image, keep), expected)
    assert torch.equal(model.encode_image(image), expected)  # the mask leaves nothing behind
    everything = torch.arange(model.num_patches).expand(3, -1)
    assert torch.equal(model.encode_image(image, everything), expected)


def test_a_mask_that_fails_leaves_nothing_behind(make_vit, images):
    model, image = make_vit(), images(2, 32)
    expected = model.encode_image(image)
    with pytest.raises(AssertionError):
        model.encode_image(image, torch.zeros(3, 1, dtype=torch.int64))
    assert torch.equal(model.encode_image(image), expected)


@pytest.mark.parametrize("vision", [RESNET, TIMM], ids=["resnet", "timm"])
def test_other_towers_see_the_mean_color_in_the_dropped_blocks(config, tokenizer, images, vision):
    model = Clip(config | {"vision_cfg": vision}, tokenizer).eval()
    assert (model.num_patches, model.drops_tokens) == (49, False)
    seen = []
    model.towers.visual.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    image, keep = images(3, 32), kept_patches(KEYS[:3], 49, 0.5, 0, 0)
    model.encode_image(image)
    masked = model.encode_image(image, keep)
    whole, blanked = seen
    for number in range(3):
        for y in range(32):
            for x in range(32):
                kept = y * 7 // 32 * 7 + x * 7 // 32 in keep[number].tolist()
                assert torch.equal(blanked[number, :, y, x], whole[number, :, y, x] if kept else torch.zeros(3))
    rounded = (image.float() - model._mean).div(model._std)
    rounded[blanked == 0] = 0
    torch.testing.assert_close(masked, model.towers.encode_image(rounded))


def test_blocks_of_an_image_of_seven_pixels_are_its_pixels():
    pixels, keep = torch.rand(2, 3, 7, 7) + 1, torch.tensor([[0, 48], [6, 24]])
    places = keep_blocks(pixels, keep)[:, 0].flatten(1).nonzero().tolist()
    assert places == [[0, 0], [0, 48], [1, 6], [1, 24]]


def test_the_order_of_the_kept_tokens_is_the_order_given():
    tokens = torch.arange(10.0).view(2, 5, 1)
    assert keep_tokens(tokens, torch.tensor([[3, 0], [1, 2]])).flatten(1).tolist() == [[0, 4, 1], [5, 7, 8]]


def test_gradients_reach_the_tower_and_only_the_kept_positions(make_vit, images):
    model = make_vit()
    keep = torch.tensor([[1, 5], [5, 9]])
    model.encode_image(images(2, 32), keep).square().sum().backward()
    assert [name for name, parameter in model.towers.visual.named_parameters() if parameter.grad is None] == []
    touched = model.towers.visual.positional_embedding.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [0, 1 + 1, 1 + 5, 1 + 9]


def test_masks_under_autocast_come_out_in_float32(make_vit, images):
    model, image = make_vit(), images(2, 32)
    keep = kept_patches(KEYS[:2], 16, 0.5, 0, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.encode_image(image, keep)
    assert rounded.dtype == torch.float32
    exact = model.encode_image(image, keep)
    torch.testing.assert_close(torch.cosine_similarity(rounded, exact), torch.ones(2), atol=1e-3, rtol=0)


def test_a_vit_that_pools_by_attention_is_masked_too(make_vit, images):
    model = make_vit(attentional_pool=True, attn_pooler_queries=3, attn_pooler_heads=2)
    assert model.encode_image(images(2, 32), kept_patches(KEYS[:2], 16, 0.5, 0, 0)).shape == (2, 16)


def test_a_tower_that_drops_patches_itself_is_not_masked_once_more(make_vit, images):
    model = make_vit(patch_dropout=0.5)
    assert isinstance(model.towers.visual.patch_dropout, open_clip.transformer.PatchDropout)
    assert model.encode_image(images(2, 32)).shape == (2, 16)
    with pytest.raises(ValueError, match=r"^this model's vision_cfg has patch_dropout 0\.5, .* set it to 0$"):
        model.encode_image(images(2, 32), kept_patches(KEYS[:2], 16, 0.5, 0, 0))
