"""Multiply-accumulates against PyTorch's own counter of floating-point operations."""

import pytest
import torch
from open_clip.factory import get_model_config
from torch.utils.flop_counter import FlopCounterMode

from workbench.config.inheritance import Plan
from workbench.config.shape import TowerShape
from workbench.inheritance import inherit
from workbench.inheritance.costs import multiply_accumulates, transformer
from workbench.models.clip import Clip
from workbench.models.tokenizers import BytePairTokenizer


def counted(encode, one):
    """Two operations each. In training mode, for the counter does not know the fused attention of evaluation."""
    with FlopCounterMode(display=False) as counter:
        encode(one)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"image": {"depth": 2, "width": 16}, "text": {"depth": 1}},
        {"image": {"width": 20, "heads": 3, "channels": 50}, "text": {"heads": 1, "channels": 7}},
    ],
)
def test_the_counter_agrees_on_transformers(make_teacher, inputs, plan):
    model = inherit(make_teacher(), Plan.parse(plan)).train()
    assert multiply_accumulates(model.config, "image") == counted(model.encode_image, inputs[0][:1])
    assert multiply_accumulates(model.config, "text") == counted(model.encode_text, inputs[1][:1])


@pytest.mark.parametrize("plan", [{}, {"depth": [1, 2, 2, 1]}, {"width": 6}])
def test_the_counter_agrees_on_resnets(resnet, plan):
    model = inherit(resnet, Plan.parse({"image": plan})).eval()
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert multiply_accumulates(model.config, "image") == counted(model.encode_image, image)


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_the_counter_agrees_on_the_real_sizes(name):
    with torch.device("meta"):
        model = Clip(get_model_config(name), BytePairTokenizer())
        image = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
        if name == "RN50":
            model.eval()  # for the statistics of its batch norms
        assert multiply_accumulates(model.config, "image") == counted(model.encode_image, image)
    if name == "ViT-B-32":
        assert 4.35e9 < multiply_accumulates(model.config, "image") < 4.45e9  # as papers say: 4.4 G


def test_layers_with_nothing_cost_nothing():
    one = TowerShape(width=20, head_width=4, heads=(2,), channels=(7,))
    more = TowerShape(width=20, head_width=4, heads=(0, 2, 0), channels=(0, 7, 0))
    assert transformer(one, 9) == transformer(more, 9) == 9 * 20 * (4 * 8 + 2 * 7) + 2 * 81 * 8
