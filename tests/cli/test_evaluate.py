import json
from pathlib import Path

from PIL import Image


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


def test_linear_probes_are_a_table_next_to_zero_shot(workbench, tiny_models: dict[str, str]) -> None:
    for number in range(24):
        path = Path("things", ("red", "blue")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (250, 8 * number, 0) if number % 2 else (0, 8 * number, 250)).save(path)
    arguments = [tiny_models["teacher"], "--data", "folder:things", "--pairs", "20"]
    arguments += ["--linear-probe", "folder:things", "--shots", "2,all", "--seeds", "2"]
    document = json.loads(workbench("evaluate", *arguments, "--json").out)
    assert (document["num_pairs"], document["num_train"], document["num_classes"]) == (20, 24, 2)
    assert document["metrics"].keys() == {"zero_shot_top1"}
    two, every = document["linear_probe"]
    assert (two["shots"], every["shots"], every["accuracy"]["mean"]) == (2, "all", 1)
    assert len(two["accuracy"]["per_seed"]) == len(two["l2"]) == 2
    *_, zero_shot, first, last = workbench("evaluate", *arguments).out.splitlines()
    assert zero_shot.split() == ["zero-shot", f"{100 * document['metrics']['zero_shot_top1']:.1f}"]
    assert first.split()[:2] == ["2-shot", f"{100 * two['accuracy']['mean']:.1f}"]
    assert last.split() == ["all", "images", "100.0", "1"]
    assert workbench("evaluate", *arguments[:-4], "--shots", "13").code == 2


def test_several_models_are_columns_with_their_differences(workbench, tiny_recipe: str, tiny_models) -> None:
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    arguments = ["one", "sample:scenes", "--teacher", tiny_models["teacher"], "--pairs", "40"]
    document = json.loads(workbench("evaluate", *arguments, "--json").out)
    one, scenes = document["models"]
    assert (one["differences"], one["nearer"]) == ({}, None)
    difference = scenes["differences"]["image_to_text_r1"]
    assert difference["low"] < difference["mean"] < difference["high"]
    assert difference["mean"] == scenes["metrics"]["image_to_text_r1"] - one["metrics"]["image_to_text_r1"]
    assert {*scenes["nearer"]["first"], *scenes["nearer"]["unclear"]} >= {"cka"}
    shown = workbench("evaluate", *arguments, "--figure", "affinity.svg").out.splitlines()
    drawn = Path("affinity.svg").read_text()
    assert "<svg" in drawn and drawn.count("KL ") == 2  # a difference to the teacher for each model
    assert shown[0].startswith("A  one: ")
    assert shown[3].split()[:4] == ["metric", "teacher", "A", "B"]
    assert any(line.startswith("A is nearer to the teacher by ") for line in shown)
