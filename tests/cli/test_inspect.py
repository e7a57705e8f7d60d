"""``workbench inspect``: what a weights file is."""

import json

import pytest
import torch

from tests.models import layouts
from tests.models.test_released import NAME, state, uneven
from workbench.models.spec import load_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    """A released student in TinyCLIP's layout, and an unevenly pruned one."""
    folder = tmp_path_factory.mktemp("released")
    torch.save({"state_dict": layouts.tinyclip(state(load_model(NAME, seed=0).config))}, folder / "manual.pt")
    torch.save(layouts.tinyclip(state(uneven())), folder / "auto.pt")
    return folder


def test_a_released_student_is_named_with_its_parameters(workbench, files) -> None:
    result = workbench("inspect", str(files / "manual.pt"), "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["model"] == f"open_clip:{NAME}@{files / 'manual.pt'}"
    image, text = document["towers"]["image"], document["towers"]["text"]
    # TinyCLIP's name: 8 M parameters in the image tower, 3 M in the text tower without its embeddings.
    assert round(image["parameters"]["total"] / 1e6) == 8
    assert text["parameters"]["blocks"] // 10**6 in (2, 3)
    assert (image["heads"], image["channels"]) == ([4] * 10, [1024] * 10)
    assert "ViT-8M-16-Text-3M" in workbench("inspect", str(files / "manual.pt")).out


def test_an_uneven_student_is_shown_layer_by_layer(workbench, files) -> None:
    document = json.loads(workbench("inspect", str(files / "auto.pt"), "--json").out)
    assert document["towers"]["image"]["heads"] == [3, 1, 0]
    assert document["towers"]["text"]["channels"] == [100, 0, 64]
    shown = workbench("inspect", str(files / "auto.pt")).out
    assert "layer of the image tower" in shown
    assert "unevenly pruned" in shown


def test_towers_of_other_kinds_are_named(workbench) -> None:
    assert "ModifiedResNet" in workbench("inspect", "open_clip:RN50").out


def test_what_is_no_model_is_one_line(workbench, tmp_path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    for path, remedy in (("other.pt", "config:FILE.json"), ("gone.pt", "check the path")):
        result = workbench("inspect", str(tmp_path / path))
        assert result.code == 2
        assert remedy in result.err
        assert "Traceback" not in result.err
