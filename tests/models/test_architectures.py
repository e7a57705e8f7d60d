"""Shapes and configs identify their architecture, and its pretrained weights their normalization."""

import open_clip
import pytest
import torch
from open_clip.factory import get_model_config
from torch import Tensor

from workbench.models.architectures import (
    OPENAI,
    architecture_name,
    fitting_architectures,
    normalizations_of,
    usual_normalization,
)

CONFIGS = {name: get_model_config(name) for name in open_clip.list_models()}


def fitting(tensors: dict[str, Tensor]) -> list[str]:
    return fitting_architectures(tensors, CONFIGS)


def weights(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return open_clip.CLIP(**get_model_config(name)).state_dict()


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-B-32-256", "ViT-L-14-336", "RN50", "RN50x4", "ViT-S-16"])
def test_shapes_identify_the_architecture(name: str) -> None:
    assert fitting(weights(name))[0] == name


def test_the_activation_stays_open_and_the_usual_one_comes_first() -> None:
    assert fitting(weights("ViT-B-16-quickgelu"))[:2] == ["ViT-B-16", "ViT-B-16-quickgelu"]


def test_a_separate_text_tower_is_recognized() -> None:
    own = {name if name.startswith("visual.") else f"text.{name}": tensor for name, tensor in weights("RN50").items()}
    assert fitting(own)[0] == "RN50"


@pytest.mark.parametrize("change", [{"visual.conv1.weight": (99, 3, 16, 16)}, {"text_projection": (512, 77)}])
def test_other_shapes_fit_nothing(change: dict[str, tuple[int, ...]]) -> None:
    changed = {name: torch.empty(shape, device="meta") for name, shape in change.items()}
    assert fitting(weights("ViT-B-16") | changed) == []


@pytest.mark.parametrize("names", [{}, {"vision_model.embeddings.class_embedding": torch.zeros(3)}])
def test_other_names_fit_nothing(names: dict[str, Tensor]) -> None:
    assert fitting(names) == []


def test_the_tags_of_an_architecture() -> None:
    assert normalizations_of("ViT-B-32") == (OPENAI,)
    assert normalizations_of("MobileCLIP-S1") == (((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),)
    assert [one == OPENAI for one in normalizations_of("ViT-L-14")] == [True, False]  # laion2b_s32b_b82k has 0.5
    assert normalizations_of("ViT-S-32") == ()
    assert usual_normalization("ViT-S-32", "w.pt") == OPENAI


def test_a_config_is_known_by_its_content_but_for_the_activation() -> None:
    config = get_model_config("MobileCLIP-S1")
    assert architecture_name(config | {"quick_gelu": True}) == "MobileCLIP-S1"
    assert architecture_name(config | {"embed_dim": 3}) == ""
