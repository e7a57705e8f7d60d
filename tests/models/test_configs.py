"""The estimated size of a config is a lower bound, and close for open_clip's own towers."""

import copy

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.factory import get_model_config

from workbench.config.inheritance import TowerShape
from workbench.models import configs as module
from workbench.models.clip import Clip, count_parameters
from workbench.models.configs import TABLES, check_size, estimate, tower_shape, why_not_a_transformer, with_shape


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "ViT-L-14-336", "RN50x4", "ViT-S-16-alt"])
def test_open_clips_towers(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        real = sum(parameter.numel() for parameter in open_clip.CLIP(**config).parameters())
    found, blocks = estimate(config)
    assert 0.96 * real < found <= real + 77**2  # the mask is no parameter, but memory
    image, text = (config[section]["layers"] for section in ("vision_cfg", "text_cfg"))
    assert blocks == text + (sum(image) if isinstance(image, list) else image)


def test_a_tower_with_a_table(config, tokenizer):
    shape = tower_shape(config, "image")
    changed = with_shape(config, "image", shape.model_copy(update={"channels": (5, *shape.channels[1:])}))
    real = count_parameters(Clip(changed, tokenizer))["total"]
    assert 0.5 * real < estimate(changed)[0]


def test_the_bound_is_the_memory_of_this_process(config, monkeypatch):
    needed_mb = (4 * estimate(config)[0] + module.BLOCK_BYTES * estimate(config)[1]) / 2**20
    monkeypatch.setattr(module, "memory_mb", lambda: (needed_mb + 1, 0.0))
    check_size(config)
    monkeypatch.setattr(module, "memory_mb", lambda: (needed_mb - 0.001, 0.0))
    with pytest.raises(ValueError, match=r"describes .* parameters in 3 blocks, .* GB in float32.*this machine has"):
        check_size(config)


@pytest.mark.parametrize("value", ["many", None, [], {}, 0])
def test_what_is_no_number_is_left_to_open_clip(config, value):
    config["vision_cfg"]["patch_size"] = value
    check_size(config)


def test_the_shapes_of_open_clips_vit_b():
    config = get_model_config("ViT-B-32")
    assert tower_shape(config, "image") == TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)
    assert tower_shape(config, "text") == TowerShape(width=512, head_width=64, heads=(8,) * 12, channels=(2048,) * 12)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_same_shape_is_the_same_config(config, tower, with_table):
    before = copy.deepcopy(config)
    assert with_shape(config, tower, tower_shape(config, tower)) == before
    tabled = with_table(config, tower)
    assert tower in tabled[TABLES]
    assert tower_shape(tabled, tower) == tower_shape(before, tower)
    assert with_shape(tabled, tower, tower_shape(before, tower)) == before
    assert config == before


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["image", "text"]), st.integers(1, 9), st.integers(1, 300), st.integers(1, 4), st.integers(1, 20)
)
def test_any_plain_shape_is_expressed_in_open_clips_settings(tower, heads, channels, num_layers, head_width):
    config = get_model_config("ViT-B-32")
    width = heads * head_width
    shape = TowerShape(
        width=width, head_width=head_width, heads=(heads,) * num_layers, channels=(channels,) * num_layers
    )
    changed = with_shape(config, tower, shape)
    assert TABLES not in changed
    assert tower_shape(changed, tower) == shape


@pytest.mark.parametrize("custom_text", [False, True])
def test_a_model_is_built_in_any_shape(config, tokenizer, images, captions, custom_text):
    uneven = TowerShape(width=10, head_width=6, heads=(1, 0, 3), channels=(7, 2, 0))
    for tower in ("image", "text"):
        changed = with_shape(config | {"custom_text": custom_text}, tower, uneven)
        model = Clip(changed, tokenizer).eval()
        assert model.encode_image(images(2)).shape == model.encode_text(tokenizer(captions(2))).shape == (2, 16)
        heads, channels = ((1, 3), (7, 2))
        matrices = sum(4 * 10 * 6 * n for n in heads) + sum(2 * 10 * n for n in channels)
        inner_biases = sum(3 * 6 * n for n in heads) + sum(channels)
        norms, biases = 4 * 2 * 10, 6 * 10
        blocks = count_parameters(model, tower)["blocks"]
        around = 3 * 64 * 10 + 10 + 4 * 10 if tower == "image" else 2 * 10  # patches, class token, norms
        assert blocks == matrices + inner_biases + norms + biases + around + 10 * 16


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("vision_cfg", {"timm_model_name": "vit_tiny"}, "the image tower is vit_tiny, from another library"),
        ("vision_cfg", {"layers": [1, 1, 1, 1]}, "the image tower is a ModifiedResNet"),
        ("vision_cfg", {"attentional_pool": True}, "the image tower has attentional_pool"),
        ("text_cfg", {"ls_init_value": 1e-5}, "the text tower has ls_init_value"),
        ("text_cfg", {"embed_cls": True}, "the text tower has embed_cls"),
        ("text_cfg", {"bogus": 1}, "text_cfg is not open_clip's: .*bogus"),
    ],
)
def test_towers_without_such_a_shape_are_refused_with_the_reason(config, section, changes, words):
    config[section] |= changes
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        tower_shape(config, "image" if section == "vision_cfg" else "text")


def test_ordinary_towers_are_transformers(config):
    assert why_not_a_transformer(config, "image") == why_not_a_transformer(config, "text") == ""


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"picture": {}}, "unknown tower 'picture'"),
        ({"image": {"head_width": 16, "heads": [1], "channels": [1]}}, "vision_cfg has 2 layers, its table 1"),
        ({"image": {"head_width": 16, "heads": [1, 2]}}, "channels: field required"),
        ({"text": {"head_width": 8, "heads": [-1], "channels": [3]}}, r"heads\.0: input should be greater"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(config, tokenizer, tables, words):
    with pytest.raises(ValueError, match=rf"\A{words}.*\Z"):
        Clip(config | {TABLES: tables}, tokenizer)
