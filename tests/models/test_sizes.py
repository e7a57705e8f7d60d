"""The papers' model sizes have the parameter counts in their names."""

import re

import pytest
import torch

from workbench.models.spec import SIZES, load_model

TINYCLIP = sorted(path.stem for path in SIZES.glob("*-Text-*.json"))


def millions(spec: str) -> tuple[float, float]:
    """Parameters of the image and of the text tower, the token table left out, as the paper counts them."""
    with torch.device("meta"):
        towers = load_model(spec, seed=0).towers
    image = sum(parameter.numel() for parameter in towers.visual.parameters())
    apart = image + towers.token_embedding.weight.numel() + 1  # and the scale
    return image / 1e6, (sum(parameter.numel() for parameter in towers.parameters()) - apart) / 1e6


@pytest.mark.parametrize("spec", TINYCLIP)
def test_tinyclips_manual_sizes_have_the_parameters_of_their_names(spec: str) -> None:
    named = re.fullmatch(r"(?:ViT|RN)-(\d+)M(?:-\d+)?-Text-(\d+)M", spec)
    assert named is not None
    assert [round(number) for number in millions(spec)] == [int(number) for number in named.groups()]


def test_all_six_are_there() -> None:
    assert len(TINYCLIP) == 6


def test_a_resnet_of_tinyclip_sees_and_reads() -> None:
    model = load_model("RN-19M-Text-19M", seed=0).eval()
    with torch.no_grad():
        image_BD = model.encode_image(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
        text_BD = model.encode_text(model.tokenizer(["a cat"]))
    assert image_BD.shape == text_BD.shape == (1, model.width) == (1, 1024)
