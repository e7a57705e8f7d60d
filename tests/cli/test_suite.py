"""``workbench evaluate --suite``: one table, kept with the run."""

import json
from pathlib import Path

import pytest
from PIL import Image

SUITE = """
question = "Retrieval and two classes"
[[evaluations]]
name = "scenes"
task = "retrieval"
data = "samples:scenes"
pairs = 40
[[evaluations]]
name = "things"
task = "zero-shot"
data = "folder:{root}/things"
[[evaluations]]
name = "elsewhere"
task = "zero-shot"
data = "folder:{root}/gone"
"""


@pytest.fixture
def measured(workbench, tiny_recipe: str):
    """A finished run with its suite's data in ``data``."""
    for number in range(8):
        path = Path("data", "things", ("red", "blue")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (250, 8 * number, 0)).save(path)
    Path("mine.toml").write_text(SUITE)
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    return workbench


def test_a_suite_is_a_table_and_stays_with_the_run(measured) -> None:
    arguments = ["evaluate", "one", "--suite", "mine.toml", "--root", "data"]
    first = measured(*arguments)
    assert first.code == 0
    title, heading, *lines = first.out.splitlines()
    assert (title, heading.split()[:3]) == ("mine, step 12", ["evaluation", "metric", "value"])
    assert [line.split()[0] for line in lines[:3]] == ["scenes", "text→image", "things"]
    assert lines[3].startswith("elsewhere skipped: ")
    assert [line.split()[-1] for line in first.err.splitlines() if line.startswith(("scenes", "things"))] == [
        "measured"
    ] * 2
    document = json.loads(measured(*arguments, "--json").out)
    assert [one["state"] for one in document["evaluations"]] == ["reused", "reused", "skipped"]
    scenes, things, _ = document["evaluations"]
    assert scenes["metrics"].keys() == scenes["errors"].keys() == scenes["chance"].keys()
    assert (scenes["num_images"], things["num_images"], things["chance"]) == (40, 8, {"zero_shot_top1": 0.5})
    # The run's validation pairs are 40 of another split.
    summary = json.loads(Path("runs/one/summary.json").read_text())
    assert [one["metrics"] for one in summary["suites"]] == [scenes["metrics"], things["metrics"]]
    shown = measured("runs", "show", "one").out
    assert "\n".join([title, heading, *lines[:3]]) in shown
    assert json.loads(measured("runs", "show", "one", "--json").out)["suites"] == summary["suites"]


def test_one_evaluation_alone_and_a_model_without_a_run(measured) -> None:
    arguments = ["--suite", "mine.toml", "--root", "data", "--only", "things", "--json"]
    (alone,) = json.loads(measured("evaluate", "one", *arguments).out)["evaluations"]
    assert alone["name"] == "things"
    (model,) = json.loads(measured("evaluate", "sample:scenes", *arguments).out)["evaluations"]
    assert (model["state"], model["step"]) == ("measured", None)
    assert json.loads(measured("evaluate", "sample:scenes", *arguments).out)["evaluations"][0]["state"] == "reused"


def test_two_runs_are_compared_by_their_suites(measured, tiny_recipe: str) -> None:
    assert measured("train", "--recipe", tiny_recipe, "--name", "two", "--seed", "1").code == 0
    for run in ("one", "two"):
        assert measured("evaluate", run, "--suite", "mine.toml", "--root", "data").code == 0
    split = json.loads(measured("runs", "compare", "one", "two", "--json").out)["splits"]["mine"]
    assert (split["steps"], split["same_pairs"]) == ([12, 12], True)
    assert split["metrics"].keys() == {
        "scenes/image_to_text_r1",
        "scenes/text_to_image_r1",
        "things/zero_shot_top1",
    }


def test_without_any_data_the_root_is_named(workbench) -> None:
    found = workbench("evaluate", "sample:scenes", "--suite", "papers", "--root", "nowhere")
    assert found.code == 2
    assert found.err.splitlines()[-1].endswith("--root DIR")
    assert found.out.count("skipped") == 8


def test_data_that_cannot_be_used_fail_after_the_table(measured) -> None:
    Path("mine.toml").write_text(SUITE.replace("folder:{root}/gone", "samples:emoji/train") + "pairs = 20\n")
    found = measured("evaluate", "one", "--suite", "mine.toml", "--root", "data")
    assert found.code == 1
    assert "things" in found.out
    assert "elsewhere failed: " in found.out
