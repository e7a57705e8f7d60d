import json
from pathlib import Path

import pytest


def test_an_inherited_model_is_smaller_evaluates_and_trains(workbench, tiny_models, tiny_recipe: str) -> None:
    made = workbench(
        "inherit", "--teacher", tiny_models["teacher"], "--set", "image.width=8", "--out", "small", "--json"
    )
    assert made.code == 0, made.err
    document = json.loads(made.out)
    assert document["plan"]["image"]["width"] == 8
    shape = document["student"]["image"]["shape"]
    assert (shape["width"], shape["heads"]) == (8, [1])
    assert document["student"]["image"]["block_parameters"] < document["teacher"]["image"]["block_parameters"]
    assert document["student"]["text"] == document["teacher"]["text"]
    assert workbench("evaluate", "small", "--data", "samples:scenes/validation", "--json").code == 0
    trained = workbench("train", "--recipe", tiny_recipe, "--set", "student.model=small", "--json")
    assert trained.code == 0, trained.err


def test_both_towers_layer_by_layer_and_what_they_cost(workbench) -> None:
    made = workbench("inherit", "--teacher", "sample:scenes", "--depth", "0.5", "--out", "half", "--figure", "half.svg")
    assert made.code == 0, made.err
    lines = [line.split() for line in made.out.splitlines()]
    assert [line[1:] for line in lines if line[:1] == ["layers"]] == [["4", "2", "50%"], ["2", "1", "50%"]]
    assert ["1", "0", "of", "4", "0%", "0", "of", "512", "0%"] in lines
    assert sum(line[:2] == ["block", "params"] for line in lines) == 2
    assert "figure: half.svg" in made.out
    assert Path("half.svg").read_text().startswith("<?xml")


def test_the_json_has_what_remains(workbench, tiny_models) -> None:
    made = workbench(
        "inherit", "--teacher", tiny_models["teacher"], "--set", "text.channels=0.5", "--out", "small", "--json"
    )
    towers = json.loads(made.out)["architecture"]["towers"]
    assert towers["text"]["student"]["channels"] == [32]
    assert towers["text"]["teacher"]["channels"] == [64]
    assert towers["image"]["student"] == towers["image"]["teacher"]


def test_a_figure_that_cannot_be_drawn_leaves_no_model(workbench, tiny_models) -> None:
    made = workbench(
        "inherit", "--teacher", tiny_models["teacher"], "--set", "text.channels=9", "--out", "x", "--figure", "x.gif"
    )
    assert made.code == 2
    assert "unknown figure format '.gif'" in made.err
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to remove"),
        (("--depth", "99"), "the teacher has 4 layers, choose 1 to 4"),
        (("--set", "image.width=50"), "not a multiple of the head size"),
        (("--set", "image.widht=64"), "did you mean 'width'"),
    ],
)
def test_an_impossible_plan_reports_why(workbench, arguments: tuple[str, ...], message: str) -> None:
    result = workbench("inherit", "--teacher", "sample:scenes", "--out", "x", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_folder_that_is_there_is_not_written_over(workbench, tmp_path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    result = workbench("inherit", "--teacher", "sample:scenes", "--depth", "1", "--out", "taken")
    assert result.code == 2
    assert "--out" in result.err


def test_masks_are_learned_until_the_target_sparsity_is_reached(workbench, tmp_path: Path) -> None:
    command = ["inherit", "--teacher", "sample:scenes", "--auto", "0.3", "--data", "samples:scenes/validation"]
    made = workbench(*command, "--steps", "2", "--out", "learned", "--json")
    assert made.code == 0, made.err
    document = json.loads(made.out)
    assert document["architecture"]["sparsity"] == pytest.approx(0.3, abs=1e-3)
    left = sum(side["shape"]["heads"][0] for side in document["student"].values())
    assert left <= 8
    assert (tmp_path / "learned" / "open_clip_model.safetensors").stat().st_size < 4.5e6  # of the teacher's 5.5


def test_a_setting_that_an_error_advises_is_taken(workbench, tmp_path: Path) -> None:
    command = ["inherit", "--teacher", "sample:scenes", "--auto", "0.3", "--data", "samples:scenes", "--steps", "2"]
    command += ["--set", "data.num_pairs=20", "--out", "learned"]
    refused = workbench(*command)
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "lower train.batch_size" in refused.err
    made = workbench(*command, "--set", "train.batch_size=10")
    assert made.code == 0, made.err
    assert (tmp_path / "learned").is_dir()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--auto", "0.5"], "add --data SPEC"),
        (["--auto", "1.5", "--data", "samples:scenes"], "--auto must be above 0 and below 1 (got 1.5)"),
        (["--auto", "nan", "--data", "samples:scenes"], "--auto must be above 0 and below 1 (got nan)"),
        (["--auto", "0.5", "--data", "nowhere.csv"], "name another with --data SPEC"),
        (["--auto", "0.5", "--data", "samples:scenes", "--set", "train.num_steps=9"], "use --steps instead"),
        (["--auto", "0.5", "--data", "samples:scenes", "--set", "teacher.model=x"], "use --teacher instead"),
        (["--auto", "0.5", "--data", "samples:scenes", "--set", "inheritance.frozen=text"], "use --auto instead"),
        (["--auto", "0.5", "--data", "samples:scenes", "--steps", "0"], "--steps must be at least 1"),
        (["--depth", "0.5", "--data", "samples:scenes"], "--data and --steps need --auto"),
    ],
)
def test_an_odd_request_is_one_line(workbench, tmp_path: Path, options: list[str], words: str) -> None:
    found = workbench("inherit", "--teacher", "sample:scenes", *options, "--out", "odd")
    assert (found.code, len(found.err.splitlines())) == (2, 1)
    assert words in found.err
    assert not (tmp_path / "odd").exists()
