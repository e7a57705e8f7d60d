import json
from pathlib import Path


def test_a_run_is_measured_on_as_many_pairs_as_it_validates_on(workbench, tiny_recipe: str) -> None:
    document = json.loads(workbench("train", "--recipe", tiny_recipe, "--name", "one", "--json").out)
    again = json.loads(workbench("evaluate", "one", "--json").out)
    assert again["num_pairs"] == 40
    assert again["metrics"] == document["metrics"]
    few = ["--data", "samples:scenes/validation", "--pairs", "20", "--json"]
    assert json.loads(workbench("evaluate", "one", *few).out)["num_pairs"] == 20


def test_chance_and_teacher_are_columns_next_to_the_student(workbench, tiny_recipe: str) -> None:
    arguments = ["--recipe", tiny_recipe, "--name", "one", "--set", "teacher.model=sample:scenes"]
    printed = workbench("train", *arguments)
    heading, image_to_text, *_ = printed.out.split("validation\n")[1].splitlines()
    assert heading.split() == ["metric", "value", "std.", "error", "teacher", "chance"]
    document = json.loads(workbench("evaluate", "one", "--json").out)
    teacher, chance = document["teacher_metrics"]["image_to_text_r1"], document["chance"]["image_to_text_r1"]
    assert teacher > 0.9
    assert 1 / 40 <= chance <= 2 / 40
    assert image_to_text.split()[-2:] == [f"{100 * teacher:.1f}", f"{100 * chance:.1f}"]
    assert document["chance"].keys() < document["metrics"].keys()
    summary = json.loads(Path("runs/one/summary.json").read_text())
    assert summary["teacher_metrics"] == document["teacher_metrics"]
    assert summary["chance"] == document["chance"]


def test_without_a_teacher_there_is_chance_alone(workbench) -> None:
    arguments = ["sample:scenes", "--data", "samples:scenes/validation", "--pairs", "40"]
    assert "teacher" not in workbench("evaluate", *arguments).out.splitlines()[1]
    document = json.loads(workbench("evaluate", *arguments, "--json").out)
    assert document["teacher_metrics"] == {}
    assert document["chance"]["text_to_image_r1"] < 0.1
