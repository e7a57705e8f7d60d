"""Parameter counts against sums by hand."""

import pytest

from workbench.models.clip import Clip
from workbench.models.counting import count_parameters


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
