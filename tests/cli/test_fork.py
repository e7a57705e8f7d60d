import json
import os
import shutil
import time
from pathlib import Path

import pytest


@pytest.fixture
def finished(workbench, tiny_recipe: str):
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    return workbench


def test_a_fork_trains_and_shares_its_past_in_every_view(finished) -> None:
    result = finished("runs", "fork", "one", "--at", "8", "--set", "loss.fd.weight=1", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["id"] == "one-at8"
    shown = json.loads(finished("runs", "show", "one-at8", "--json").out)
    assert (shown["state"], shown["step"], shown["num_steps"]) == ("finished", 12, 12)
    listed = json.loads(finished("runs", "list", "--json").out)["runs"]
    assert [run["id"] for run in listed] == ["one-at8", "one"]
    assert "one-at8" in finished("evaluate", "one-at8").out
    shutil.rmtree("runs/one")
    assert "forked from run 'one', which is gone" in finished("runs", "show", "one-at8").out


def test_the_parents_evaluations_are_the_forks_too(workbench, tiny_recipe: str) -> None:
    evaluated = ["--set", "evaluate.every_steps=4"]
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one", *evaluated).code == 0
    assert workbench("runs", "fork", "one", "--at", "8", "--name", "two", "--steps", "24").code == 0
    evaluations = json.loads(workbench("runs", "show", "two", "--json").out)["evaluations"]
    assert [evaluation["step"] for evaluation in evaluations] == [4, 8, 16, 24]


@pytest.mark.slow
def test_a_fork_can_be_detached(finished) -> None:
    result = finished("runs", "fork", "one", "--at", "8", "--name", "two", "--detach")
    assert result.code == 0, result.err
    assert "two is training as process" in result.out
    deadline = time.monotonic() + 60
    while not Path("runs/two/summary.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert json.loads(Path("runs/two/summary.json").read_text())["state"] == "finished"
    one, two = (json.loads(Path(f"runs/{run}/summary.json").read_text()) for run in ("one", "two"))
    if os.environ.get("OMP_NUM_THREADS") == "1":
        assert two["weights_sha256"] == one["weights_sha256"]


@pytest.mark.slow
def test_a_detached_fork_that_cannot_start_says_why_and_leaves_nothing(finished) -> None:
    result = finished("runs", "fork", "one", "--at", "8", "--set", "train.batch_size=1000", "--detach")
    assert result.code == 2
    assert "the run did not start: a batch of 1000 needs as many pairs" in result.err
    assert [path.name for path in Path("runs").iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["onee"], "did you mean 'one'"),
        (["one"], "go on longer with --steps N"),
        (["one", "--at", "5"], "no checkpoint at step 5; those it has kept: 8, 12"),
        (["one", "--at", "8", "--set", "student.model=mini-w64"], "cannot change student.model"),
        (["one", "--at", "8", "--name", "one"], "already exists"),
    ],
)
def test_what_cannot_be_is_one_line(finished, arguments: list[str], line: str) -> None:
    result = finished("runs", "fork", *arguments)
    assert result.code == 2
    assert line in result.err
    assert len(result.err.splitlines()) == 1
