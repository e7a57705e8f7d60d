"""``workbench inspect``: what a weights file is."""

import json
from pathlib import Path

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


@pytest.fixture
def inherited(workbench) -> str:
    """A model folder with half of the teacher's heads, and fewer channels of both kinds."""
    arguments = [
        "--teacher",
        "sample:scenes",
        "--width",
        "64",
        "--set",
        "image.width_rule=magnitude",
        "--set",
        "text.width_rule=magnitude",
        "--out",
        "small",
    ]
    result = workbench("inherit", *arguments)
    assert result.code == 0, result.err
    return "small"


def test_a_student_without_a_run_is_read_as_parts_of_its_teacher(workbench, inherited: str) -> None:
    arguments = ["inspect", inherited, "--teacher", "sample:scenes", "--against"]
    found = json.loads(workbench(*arguments, "magnitude", "--json").out)["inheritance"]
    for tower in ("image", "text"):
        assert found["towers"][tower]["student"]["width"] == 64
        assert all(match["cosine"] > 0.999 and match["is_clear"] for match in found["matches"][tower].values())
        assert [one["shared"] for one in found["overlaps"][tower].values()] == [1.0] * 3
    shown = workbench(*arguments, inherited, "--figure", "kept.png")
    assert shown.code == 0, shown.err
    assert "Mean cosine" in shown.out
    assert shown.out.count("100.0%") == 6
    assert Path("kept.png").stat().st_size > 5000


def test_a_model_that_inherited_nothing_is_named(workbench, inherited: str) -> None:
    stranger = workbench("inspect", "mini-w64", "--teacher", "sample:scenes")
    assert stranger.code == 0, stranger.err
    assert "the image tower does not resemble" in stranger.out
    refused = workbench("inspect", "open_clip:RN50", "--teacher", "sample:scenes")
    assert refused.code == 2
    assert len(refused.err.splitlines()) == 1
    assert "--teacher" in workbench("inspect", inherited, "--against", "leading").err
