import json

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


def test_both_towers_and_the_table(workbench) -> None:
    made = workbench("inherit", "--teacher", "sample:scenes", "--depth", "0.5", "--out", "half")
    assert made.code == 0, made.err
    layers = [line.split()[3] for line in made.out.splitlines() if "tower" in line]
    assert layers == ["4", "2", "2", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing is left out"),
        (("--depth", "99"), "the teacher has 4 layers, choose 1 to 4"),
        (("--set", "image.width=50"), "not a multiple of the head size"),
        (("--set", "image.widht=64"), "did you mean 'width'"),
    ],
)
def test_a_plan_that_cannot_be_says_why(workbench, arguments: tuple[str, ...], message: str) -> None:
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
