import json
from pathlib import Path

import pytest

SMALL = ("num_images=8", "num_validation_images=4", "batch_size=4", "image_size=64", "width=8", "regions=8")
SETTINGS = [part for setting in SMALL for part in ("--set", f"dense.{setting}")]
COMMAND = ("dense", "sample:scenes", "--data", "samples:scenes-dense", "--schedule", "0.1x", *SETTINGS)


def test_it_is_a_run_with_metrics_that_can_be_shown_and_drawn(workbench, tmp_path: Path) -> None:
    result = workbench(*COMMAND, "--name", "tower", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["source"] == "sample:scenes"
    (run,) = document["runs"]
    assert (run["id"], run["state"], run["step"]) == ("tower", "finished", 2)
    assert document["metrics"]["box_ap"]["per_seed"] == [run["metrics"]["box_ap"]]
    assert {"mask_ap50", "box_ap75", "mask_ap_small"} <= document["metrics"].keys()
    listed = json.loads(workbench("runs", "list", "--json").out)
    assert [one["id"] for one in listed["runs"]] == ["tower"]
    shown = workbench("runs", "show", "tower", "--detections", "--figure", "seen.png", "--json")
    found = json.loads(shown.out)["detections"]
    assert len(found["truth"]) == len(found["tower"]) == 4
    assert (tmp_path / "seen.png").stat().st_size > 10_000


def test_several_seeds_have_an_interval_and_a_run_is_a_source(workbench) -> None:
    assert workbench(*COMMAND, "--name", "first", "--boxes-only").code == 0
    again = ("dense", "first", *COMMAND[2:])
    result = workbench(*again, "--name", "again", "--seeds", "2", "--boxes-only", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert [run["id"] for run in document["runs"]] == ["again-s0", "again-s1"]
    assert len(document["metrics"]["box_ap"]["per_seed"]) == 2
    assert "mask_ap" not in document["metrics"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("sample:scenes", "--data", "samples:scenes"), "samples:scenes-dense"),
        (("sample:scenes", "--data", "samples:scenes-dense/tset"), "'test'"),
        (("sample:scenes", "--data", "coco-detection:missing.json@here"), "missing.json"),
        (("sample:scenes", "--data", "coco-detection:missing.json"), "@"),
        (("sample:scenes", "--data", "samples:scenes-dense", "--schedule", "2x"), "1x"),
        (("sample:scenes", "--data", "samples:scenes-dense", "--set", "dense.widht=3"), "width"),
        (("mini-w64", "--data", "samples:scenes-dense"), "without weights"),
        (("nowhere", "--data", "samples:scenes-dense"), "nowhere"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(workbench, arguments, named) -> None:
    result = workbench("dense", *arguments)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert named in result.err


def test_without_pycocotools_the_remedy_is_its_extra(workbench, monkeypatch) -> None:
    from workbench.data.detection import dataset

    monkeypatch.setattr(dataset, "find_spec", lambda _: None)
    result = workbench(*COMMAND)
    assert result.code == 2
    assert "pip install 'clip-distillation-workbench[dense]'" in result.err
