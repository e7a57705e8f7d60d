import json
from pathlib import Path

from workbench.models.folder import load_folder
from workbench.resources import PACKAGE


def test_a_teacher_is_written_measured_and_teaches(workbench, tiny_recipe: str) -> None:
    arguments = ["--recipe", tiny_recipe, "--set", "teacher.model=''", "--set", "loss.crd.weight=0"]
    arguments += ["--set", "loss.fd.weight=0", "--set", "loss.icl.weight=0", "--name", "t", "--out", "mine", "--json"]
    result = workbench("teacher", "train", *arguments)
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["validation"]["num_pairs"] == 40
    assert document["validation"]["chance"]["image_to_text_r1"] < 0.06
    assert document["at_chance"] == ["validation"]
    assert "not better than chance on the validation pairs" in result.err
    assert "--steps N" in result.err
    assert {path.name for path in Path("mine").iterdir()} == {
        "log.jsonl",
        "metrics.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "run.toml",
        "tokenizer.json",
    }
    student = workbench("train", "--recipe", tiny_recipe, "--set", "teacher.model=mine", "--steps", "3", "--name", "s")
    assert student.code == 0, student.err
    assert "guessing gives 2.5%" in student.err
    printed = workbench("teacher", "train", *arguments[:-5], "--name", "v", "--out", "other").out
    assert "chance" in printed
    assert "distill from it" not in printed
    again = workbench("teacher", "train", *arguments[:-5], "--name", "u", *arguments[-3:])
    assert again.code == 2
    assert "mine exists already, and is complete: evaluate it (workbench evaluate mine" in again.err
    assert again.err.strip().endswith("name another with --out DIR")
    assert not Path("runs/u").exists()


def test_the_shipped_scenes_teacher_has_its_recorded_metrics() -> None:
    folder = PACKAGE.parent / "data_samples" / "scenes" / "teacher"
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert metrics[split]["num_pairs"] == 5000
        for way in ("image_to_text_r1", "text_to_image_r1"):
            assert metrics[split]["metrics"][way] >= 0.8
    total = sum(parameter.numel() for parameter in load_folder(folder).parameters())
    assert metrics["num_params"]["total"] == total


def test_a_teacher_is_taken_in_and_teaches(workbench, tiny_recipe: str) -> None:
    result = workbench("teacher", "import", "sample:scenes", "--pairs", "100", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert Path(document["folder"]) == Path("teachers/scenes").absolute()
    assert document.keys() >= {"weights_sha256", "preprocessing", "metrics", "errors", "guessing", "data"}
    model = ["--set", "teacher.model=teachers/scenes"]
    assert workbench("train", "--recipe", tiny_recipe, *model, "--steps", "3").code == 0
    again = workbench("teacher", "import", "sample:scenes")
    assert again.code == 2
    assert "teachers/scenes exists already, and is complete" in again.err
    assert "--out DIR" in again.err
    shown = workbench("teacher", "import", "sample:scenes", "--pairs", "100", "--out", "other").out
    assert "standard errors above chance" in shown
    assert "distill from it: workbench train --recipe clip-kd --set teacher.model=other" in shown


def test_what_does_not_beat_guessing_leaves_nothing(workbench, tiny_models: dict[str, str]) -> None:
    arguments = [tiny_models["teacher"], "--data", "samples:scenes", "--pairs", "100", "--out", "mine"]
    result = workbench("teacher", "import", *arguments)
    assert result.code == 2
    assert "does not beat guessing on samples:scenes" in result.err
    assert len(result.err.splitlines()) == 1
    assert not Path("mine").exists()


def test_a_place_that_cannot_be_written_is_refused_at_once(workbench) -> None:
    Path("file").write_text("x")
    for out in ("file", "file/inner"):
        result = workbench("teacher", "import", "sample:scenes", "--out", out)
        assert result.code == 2
        assert "name another with --out DIR" in result.err
