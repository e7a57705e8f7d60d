"""Conversion between configs and tower shapes, with and without a table."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.factory import get_model_config

from workbench.config.inheritance import TowerShape
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.shapes import TABLES, tower_shape, why_not_a_transformer, with_shape


def test_the_shapes_of_open_clips_vit_b():
    config = get_model_config("ViT-B-32")
    assert tower_shape(config, "image") == TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)
    assert tower_shape(config, "text") == TowerShape(width=512, head_width=64, heads=(8,) * 12, channels=(2048,) * 12)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_same_shape_is_the_same_config(config, tower):
    before = copy.deepcopy(config)
    assert with_shape(config, tower, tower_shape(config, tower)) == before
    tabled = with_shape(config, tower, tower_shape(config, tower), always_table=True)
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
