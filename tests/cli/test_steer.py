"""What a run can be told from the command line: it lands in its folder, and nonsense is refused before."""

import json
from pathlib import Path

import pytest

from workbench.runs.control import take_commands
from workbench.runs.directory import RunDirectory, find_run


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
    assert "one changes loss.fd.weight=500, optimizer.learning_rate=5e-4 from its next step on" in found.out
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
def test_what_a_run_cannot_be_told_is_one_line(workbench, waiting: RunDirectory, change: str, words: str) -> None:
    found = workbench("runs", "set", "one", change)
    assert (found.code, found.out, len(found.err.splitlines())) == (2, "", 1)
    assert words in found.err
    assert take_commands(waiting) == []


def test_a_run_that_has_ended_takes_no_commands(workbench, tiny_recipe: str) -> None:
    assert workbench("train", "--recipe", tiny_recipe, "--name", "two").code == 0
    found = workbench("runs", "pause", "two")
    assert found.code == 2
    assert "run 'two' is finished, there is no process to pause" in found.err
