"""Clip is open_clip's towers on normalized pixels, with its own seed."""

import math
import random

import open_clip
import pytest
import timm
import torch
from torchvision.transforms import Normalize

from workbench.models.clip import Clip, count_parameters
from workbench.models.tokenizers import WordTokenizer

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def change(config, path, value):
    *groups, key = path.split(".")
    for group in groups:
        config = config[group]
    config[key] = value


def same_weights(first, second):
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


@torch.no_grad()
@pytest.mark.usefixtures("no_fast_path")
@pytest.mark.parametrize("custom_text", [False, True])
def test_embeddings_are_open_clips_on_the_normalized_pixels(config, tokenizer, images, captions, custom_text):
    model = Clip(config | {"custom_text": custom_text}, tokenizer, mean=MEAN, std=STD, seed=3).eval()
    build = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    reference = build(**config).eval()
    reference.load_state_dict(model.towers.state_dict())
    image, text = images(5), tokenizer(captions(5))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    assert torch.equal(model.encode_image(image), reference.encode_image((image.float() - mean) / std))
    assert torch.equal(model.encode_text(text), reference.encode_text(text))
    embedded = model.embed(image, text)
    for ours, theirs in (
        (embedded.image_BD, reference.encode_image(Normalize(MEAN, STD)(image / 255), normalize=True)),
        (embedded.text_BD, reference.encode_text(text, normalize=True)),
    ):
        assert ours.shape == (5, 16)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.norm(dim=1), torch.ones(5), atol=1e-6, rtol=0)
    assert embedded.scale.shape == ()
    assert float(embedded.scale) == pytest.approx(1 / 0.07)


def test_pixels_are_normalized_as_torchvision_does(make_clip, images):
    model = make_clip(mean=MEAN, std=STD)
    seen = []
    model.towers.visual.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = images(4)
    image[0], image[1] = 0, 255
    model.encode_image(image)
    torch.testing.assert_close(seen[0], Normalize(MEAN, STD)(image / 255), atol=1e-6, rtol=0)


def test_the_seed_alone_decides_the_weights(make_clip):
    first = make_clip(1)
    torch.manual_seed(99)
    assert same_weights(first, make_clip(1))
    assert not any(
        torch.equal(mine, other)
        for (name, mine), other in zip(first.named_parameters(), make_clip(2).parameters(), strict=True)
        if name.endswith(("proj_weight", "fc.weight", "token_embedding.weight"))
    )


def test_the_global_random_state_is_left_as_it_was(make_clip):
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    make_clip(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize(
    ("logarithm", "scale"), [(9.0, 100.0), (-0.5, 1.0), (2.0, math.exp(2.0)), (math.log(100), 100.0)]
)
def test_the_scale_stays_between_1_and_100(make_clip, logarithm, scale):
    model = make_clip()
    with torch.no_grad():
        model.towers.logit_scale.fill_(logarithm)
    model.clamp_scale_()
    assert float(model.scale.detach()) == pytest.approx(scale, rel=1e-6)
    assert model.towers.logit_scale.requires_grad


def test_the_input_spec(make_clip, config, tokenizer):
    form = make_clip().input_spec
    assert form.image_size == 16
    assert torch.equal(form.tokenize(["a red square"]), tokenizer(["a red square"]))
    other_words = WordTokenizer(("a", "blue", "circle", "red", "triangle"), 8, 4)
    assert Clip(config, other_words).input_spec.tokenizer_id != form.tokenizer_id
    assert make_clip(7).input_spec == form


def test_what_a_config_leaves_out_is_open_clips_default(tokenizer):
    vision = {"patch_size": 56, "width": 64, "layers": 1}
    text = {"context_length": 8, "vocab_size": tokenizer.vocab_size, "width": 8, "heads": 1, "layers": 1}
    model = Clip({"embed_dim": 4, "vision_cfg": vision, "text_cfg": text}, tokenizer)
    assert (model.input_spec.image_size, model.width) == (224, 4)


def test_normalization_and_width(make_clip):
    model = make_clip()
    assert (model.mean, model.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert model.width == 16
    assert all(name.startswith("towers.") for name in model.state_dict())


def test_raw_embeddings_are_float32_under_autocast_too(make_clip, images, captions, tokenizer):
    model = make_clip()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, text = model.encode_image(images(2)), model.encode_text(tokenizer(captions(2)))
    assert image.dtype == text.dtype == torch.float32


def test_the_gradient_reaches_every_parameter(make_clip, images, captions, tokenizer):
    model = make_clip()
    embedded = model.embed(images(3), tokenizer(captions(3)))
    (embedded.scale * (embedded.image_BD @ embedded.text_BD.T)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("vision_cfg.bogus", 1, "unexpected keyword argument 'bogus'"),
        ("bogus", 1, "unexpected keyword argument 'bogus'"),
        ("vision_cfg.width", 33, "divisible"),
        ("text_cfg.heads", 5, "divisible"),
        ("text_cfg.pool_type", "best", "AssertionError"),
        ("vision_cfg", 3, "operand"),
    ],
)
def test_a_config_that_open_clip_cannot_build_is_one_line(config, tokenizer, path, value, words):
    change(config, path, value)
    with pytest.raises(ValueError, match=rf"\Aopen_clip cannot build this model config: .*{words}.*\Z"):
        Clip(config, tokenizer)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("multimodal_cfg", {"width": 8}, "multimodal_cfg.* choose a CLIP, such as open_clip:ViT-B-32"),
        ("text_cfg.hf_model_name", "roberta-base", "roberta-base of transformers.* choose a CLIP"),
        (
            "vision_cfg.timm_model_name",
            "vit_tiny_patch16_225",
            "unknown timm model .* did you mean 'vit_tiny_patch16_224'",
        ),
        ("vision_cfg.timm_model_name", "hf-hub:someone/something", "unknown timm model 'hf-hub:someone/something'"),
        ("vision_cfg.patch_size", 0, r"vision_cfg\.patch_size must be a positive integer \(got 0\)"),
        ("vision_cfg.head_width", 0, r"vision_cfg\.head_width must be a positive integer \(got 0\)"),
        ("embed_dim", 0, r"embed_dim must be a positive integer \(got 0\)"),
        ("text_cfg.width", -4, r"text_cfg\.width must be a positive integer \(got -4\)"),
        ("text_cfg.layers", -2, r"text_cfg\.layers must be a positive integer \(got -2\)"),
        ("text_cfg.layers", "2", r"text_cfg\.layers must be a positive integer \(got '2'\)"),
        ("text_cfg.heads", True, r"text_cfg\.heads must be a positive integer \(got True\)"),
        ("vision_cfg.layers", [1, 0, 1, 1], r"vision_cfg\.layers must be a positive integer \(got 0\)"),
        ("vision_cfg.image_size", 32.5, r"vision_cfg\.image_size must be a positive integer \(got 32\.5\)"),
        ("vision_cfg.layers", 10**9, "1.23e\\+13 parameters in 1e\\+09 blocks"),
        ("text_cfg.layers", 10**400, "inf parameters"),
        ("vision_cfg.width", 10**9, "GB in float32, and this machine has .* check its layers, widths"),
    ],
)
def test_what_is_not_supported_or_too_large_is_refused_before_it_is_built(
    config, tokenizer, monkeypatch, path, value, words
):
    monkeypatch.setattr(open_clip, "CLIP", None)
    change(config, path, value)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{words}[^\n]*\Z"):
        Clip(config, tokenizer)


def test_a_timm_tower_is_never_downloaded(config, tokenizer, monkeypatch):
    def create_model(*_, pretrained, **__):
        asked.append(pretrained)
        return original("resnet10t", pretrained=False)

    asked, original = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", create_model)
    vision = {"timm_model_name": "resnet10t", "timm_model_pretrained": True, "image_size": 32}
    Clip(config | {"vision_cfg": vision}, tokenizer)
    assert asked == [False]


def test_images_are_square(config, tokenizer):
    change(config, "vision_cfg.image_size", [16, 16])
    assert Clip(config, tokenizer).input_spec.image_size == 16
    change(config, "vision_cfg.image_size", [16, 24])
    with pytest.raises(ValueError, match=r"^image_size 16 x 24: the workbench supports square images only$"):
        Clip(config, tokenizer)


@pytest.mark.parametrize(("path", "value"), [("text_cfg.vocab_size", 12), ("text_cfg.context_length", 9)])
def test_a_tokenizer_that_does_not_fit_is_refused(config, tokenizer, path, value):
    change(config, path, value)
    with pytest.raises(ValueError, match=r"^the tokenizer has 11 ids in rows of 8, but the model has \d+ ids in"):
        Clip(config, tokenizer)


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_gets_no_gradient_and_the_other_does(config, tokenizer, images, captions, tower, custom_text):
    model = Clip(config | {"custom_text": custom_text}, tokenizer)
    model.freeze(tower)
    embedded = model.embed(images(3), tokenizer(captions(3)))
    assert embedded.image_BD.requires_grad == (tower != "image")
    assert embedded.text_BD.requires_grad == (tower != "text")
    (embedded.scale * (embedded.image_BD @ embedded.text_BD.T)).square().sum().backward()
    assert model.towers.logit_scale.grad is not None
    model.towers.logit_scale.grad = None
    learns = {name.startswith("towers.visual.") for name, weight in model.named_parameters() if weight.grad is not None}
    assert learns == {tower == "text"}


def test_the_batch_norm_of_a_frozen_tower_does_not_change(config, tokenizer, images):
    config["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    model = Clip(config, tokenizer)
    model.freeze("image")
    before = {name: buffer.clone() for name, buffer in model.towers.visual.named_buffers()}
    expected = model.eval().encode_image(images(4, 32))
    assert torch.equal(model.train().encode_image(images(4, 32)), expected)
    assert model.training
    assert not model.towers.visual.training
    assert model.towers.transformer.training
    torch.testing.assert_close(dict(model.towers.visual.named_buffers()), before, rtol=0, atol=0)


def block(width):
    """One transformer block: two norms, attention, and a perceptron four times as wide."""
    norms = 2 * 2 * width
    attention = 3 * (width * width + width) + (width * width + width)
    perceptron = (width * 4 * width + 4 * width) + (4 * width * width + width)
    return norms + attention + perceptron


@pytest.mark.parametrize("custom_text", [False, True])
def test_counts_agree_with_sums_by_hand(config, tokenizer, custom_text):
    vision, text, width = 32, 24, 16
    patches = 3 * 8 * 8 * vision
    image = patches + vision + 2 * vision + 2 * block(vision) + 2 * vision + vision * width  # class token, two norms
    caption = block(text) + 2 * text + text * width
    positions = (4 + 1) * vision + 8 * text  # (16 / 8)² patches and the class token; eight words
    words = (1 + 5 + 4 + 1) * text
    counted = count_parameters(Clip(config | {"custom_text": custom_text}, tokenizer))
    assert counted == {
        "blocks": image + caption + 1,  # and the scale
        "embeddings": positions + words,
        "total": image + caption + 1 + positions + words,
    }


def test_blocks_and_embeddings_are_all_there_is_of_a_convolutional_tower_too(config, tokenizer):
    config["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    model = Clip(config, tokenizer)
    counted = count_parameters(model)
    assert counted["total"] == sum(parameter.numel() for parameter in model.parameters())
    assert counted["blocks"] + counted["embeddings"] == counted["total"]
    assert counted["embeddings"] == (1 + 1) * 8 * 32 + 8 * 24 + 11 * 24  # one cell and the mean, of 32 · width channels


@pytest.mark.parametrize("custom_text", [False, True])
def test_the_towers_add_up_to_all_but_the_scale(config, tokenizer, custom_text):
    model = Clip(config | {"custom_text": custom_text}, tokenizer)
    image, text, whole = (count_parameters(model, tower) for tower in ("image", "text", None))
    assert image["total"] == sum(parameter.numel() for parameter in model.towers.visual.parameters())
    assert image["embeddings"] == (4 + 1) * 32
    assert text["embeddings"] == 8 * 24 + 11 * 24
    for size in ("blocks", "total"):
        assert image[size] + text[size] + 1 == whole[size]
