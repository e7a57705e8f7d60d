"""The estimated size of a config is a lower bound, and close for open_clip's own towers."""

import open_clip
import pytest
import torch

from workbench.models import estimate as module
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.estimate import check_size, estimate
from workbench.models.shapes import tower_shape, with_shape


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
