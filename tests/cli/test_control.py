"""Commands to a run: written to its folder, or refused."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import take_commands


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
    assert "forked from run 'one', which is missing" in finished("runs", "show", "one-at8").out


def test_the_parents_evaluations_are_the_forks_too(workbench, tiny_recipe: str) -> None:
    evaluated = ["--set", "evaluate.every_steps=4"]
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one", *evaluated).code == 0
    assert workbench("runs", "fork", "one", "--at", "8", "--name", "two", "--steps", "24").code == 0
    evaluations = json.loads(workbench("runs", "show", "two", "--json").out)["evaluations"]
    assert [evaluation["step"] for evaluation in evaluations] == [4, 8, 16, 24]


def test_a_newest_checkpoint_that_is_replaced_meanwhile_is_followed(finished, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.runs import log

    def copy_after_removal(checkpoint: Path, copy: Path) -> None:
        if checkpoint.name == "step-00000012":
            shutil.rmtree(checkpoint)  # as by its run, which is a step further
        real(checkpoint, copy)

    real = log._copy
    monkeypatch.setattr(log, "_copy", copy_after_removal)
    steps = ("--steps", "24")
    result = finished("runs", "fork", "one", *steps, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["id"] == "one-at8"

    def copy_too_late(checkpoint: Path, copy: Path) -> None:
        shutil.rmtree(checkpoint)
        real(checkpoint, copy)

    monkeypatch.setattr(log, "_copy", copy_too_late)
    refused = finished("runs", "fork", "one", "--at", "8", "--name", "three", *steps)
    assert refused.code == 2
    assert "was just removed" in refused.err


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
def test_a_detached_fork_that_cannot_start_reports_why_and_leaves_nothing(finished) -> None:
    result = finished("runs", "fork", "one", "--at", "8", "--set", "train.batch_size=1000", "--detach")
    assert result.code == 2
    assert "the run did not start: a batch of 1000 needs as many pairs" in result.err
    assert [path.name for path in Path("runs").iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["onee"], "did you mean 'one'"),
        (["one"], "longer with --steps N"),
        (["one", "--at", "5"], "no checkpoint at step 5; available: 8, 12"),
        (["one", "--at", "8", "--set", "student.model=mini-w64"], "cannot change student.model"),
        (["one", "--at", "8", "--name", "one"], "already exists"),
    ],
)
def test_what_cannot_be_is_one_line(finished, arguments: list[str], line: str) -> None:
    result = finished("runs", "fork", *arguments)
    assert result.code == 2
    assert line in result.err
    assert len(result.err.splitlines()) == 1


@pytest.fixture
def waiting(tiny_recipe: str, tmp_path: Path) -> RunDirectory:
    """A run that has its folder and has not begun."""
    from workbench.config.toml import load_recipe
    from workbench.engine.launch import create

    (tmp_path / "runs").mkdir()
    create("one", load_recipe(tiny_recipe), tmp_path / "runs")
    return find_run(tmp_path / "runs", "one")


@pytest.mark.parametrize("command", ["pause", "continue", "checkpoint"])
def test_a_command_waits_for_the_run(workbench, waiting: RunDirectory, command: str) -> None:
    found = workbench("runs", command, "one", "--json")
    assert (found.code, json.loads(found.out)) == (0, {"id": "one", "command": command, "arguments": {}})
    assert [taken.kind for taken in take_commands(waiting)] == [command]


def test_settings_are_sent_as_they_are_meant(workbench, waiting: RunDirectory) -> None:
    found = workbench("runs", "set", "one", "loss.fd.weight=500", "optimizer.learning_rate=5e-4")
    assert found.code == 0
    assert "one applies loss.fd.weight=500, optimizer.learning_rate=5e-4 from its next step on" in found.out
    (command,) = take_commands(waiting)
    assert command.arguments == {"loss.fd.weight": 500, "optimizer.learning_rate": 5e-4}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loss.fdd.weight=1", "did you mean 'loss.fd.weight'"),
        ("train.batch_size=9", "unknown setting of a run under way"),
        (
            "loss.gd.weight=3",
            "without loss.gd (it has clip, crd, fd, icl). A loss can be added in a fork, not under way",
        ),
        ("loss.gd.weight=3", "workbench runs fork RUN --set loss.gd.weight=3"),
        ("loss.fd.scale=3", "unknown setting of a run under way"),
        ("loss.fd.weight=-1", "loss.fd.weight: input should be greater than or equal to 0"),
        ("loss.fd.weight=nan", "loss.fd.weight: input should be a finite number"),
        ("optimizer.learning_rate=inf", "optimizer.learning_rate: input should be a finite number"),
        (f"loss.fd.weight={'9' * 400}", "loss.fd.weight: value is an integer that does not fit 64 bits"),
        ("loss.fd.weight", "write it as key=value"),
    ],
)
def test_a_refused_command_is_one_line(workbench, waiting: RunDirectory, change: str, words: str) -> None:
    found = workbench("runs", "set", "one", change)
    assert (found.code, found.out, len(found.err.splitlines())) == (2, "", 1)
    assert words in found.err
    assert take_commands(waiting) == []


def test_a_run_that_has_ended_takes_no_commands(workbench, tiny_recipe: str) -> None:
    assert workbench("train", "--recipe", tiny_recipe, "--name", "two").code == 0
    found = workbench("runs", "pause", "two")
    assert found.code == 2
    assert "run 'two' is finished: there is no process to pause" in found.err
