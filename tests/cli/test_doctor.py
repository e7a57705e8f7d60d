import json
from pathlib import Path

import pytest
from rich.console import Console

from workbench.cli import output


@pytest.fixture
def healthy_recipe(tiny_recipe: str) -> list[str]:
    """The tiny run with a teacher that knows its pictures."""
    return ["--recipe", tiny_recipe, "--set", "teacher.model=sample:scenes", "--set", "teacher.chunk_size=20"]


def test_the_machine_alone(workbench) -> None:
    result = workbench("doctor")
    assert "device" in result.out
    assert "torch" in result.out
    document = json.loads(workbench("doctor", "--json").out)
    assert document["recipe"] is document["forecast"] is None
    assert document["machine"]["device"] in ("cpu", "cuda")
    assert {"check", "level", "message", "remedy"} == set(document["findings"][0])
    assert not Path("runs").exists()


def test_a_run_with_warnings_is_no_failure(
    workbench, healthy_recipe: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", Console(width=80, highlight=False))
    result = workbench("doctor", *healthy_recipe)
    assert result.code == 0
    assert "WARNING  warm-up" in result.out
    assert "-> --set optimizer.warmup_fraction=0.167" in result.out
    assert max(map(len, result.out.splitlines()[1:])) <= 80
    assert "taking a few steps" in result.err
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.toml"]


def test_json_is_one_document_and_a_problem_is_status_1(workbench, tiny_recipe: str) -> None:
    result = workbench("doctor", "--recipe", tiny_recipe, "--json")  # its teacher has random weights
    document = json.loads(result.out)
    assert result.code == 1
    assert "teacher" in [finding["check"] for finding in document["findings"] if finding["level"] == "problem"]
    assert document["forecast"]["total_s"] > 0
    assert document["forecast"]["num_steps"] == 12


def test_a_trial_beyond_the_bound_is_left_out_and_the_run_estimated(workbench, healthy_recipe: list[str]) -> None:
    result = workbench("doctor", *healthy_recipe, "--max-time", "0.0001", "--json")
    document = json.loads(result.out)
    assert document["forecast"] is None
    assert document["estimate"]["total_s"] > document["estimate"]["step_s"] > 0
    assert document["estimate"]["trial_s"] > 0.0001
    (found,) = [finding for finding in document["findings"] if finding["check"] == "time"]
    assert "12 steps of 20 pairs" in found["message"]
    assert "--max-time 0" in found["remedy"]
    assert "taking a few steps" not in result.err
    assert json.loads(workbench("doctor", *healthy_recipe, "--json").out)["estimate"] is None


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--set", "train.num_steps=3"], "name one with --recipe"),
        (["--recipe", "clip-kdd"], "did you mean 'clip-kd'?"),
        (["--recipe", "tiny.toml", "--set", "train.batch_size=500"], "lower train.batch_size"),
        (["--recipe", "tiny.toml", "--set", "teacher.model="], "name one with --set teacher.model"),
    ],
)
@pytest.mark.usefixtures("tiny_recipe")
def test_bad_input_is_one_line_with_the_remedy(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("doctor", *arguments)
    assert result.code == 2
    assert remedy in result.err.splitlines()[-1]
    assert not result.out
