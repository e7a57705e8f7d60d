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


def test_the_shipped_scenes_teacher_is_what_its_metrics_say() -> None:
    folder = PACKAGE.parent / "data_samples" / "scenes" / "teacher"
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert metrics[split]["num_pairs"] == 5000
        for way in ("image_to_text_r1", "text_to_image_r1"):
            assert metrics[split]["metrics"][way] >= 0.8
    total = sum(parameter.numel() for parameter in load_folder(folder).parameters())
    assert metrics["num_params"]["total"] == total
