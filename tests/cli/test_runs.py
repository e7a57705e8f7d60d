import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from rich.cells import cell_len

from workbench.config.toml import load_recipe, read_toml
from workbench.engine.launch import launch
from workbench.events import RunFinished
from workbench.runs.directory import RunDirectory, create_run, find_run
from workbench.runs.liveness import take_commands
from workbench.runs.log import EventLog
from workbench.runs.snapshots import PLACES, Gradients, write_snapshot


@pytest.fixture
def finished(workbench, tiny_recipe: str):
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    return workbench


def test_list_and_show_name_the_run_and_its_state(finished) -> None:
    assert "one  finished  12/12" in " ".join(finished("runs", "list").out.split("\n")).replace("   ", "  ")
    assert json.loads(finished("runs", "list", "--json").out)["runs"][0]["id"] == "one"
    shown = json.loads(finished("runs", "show", "one", "--json").out)
    assert [evaluation["step"] for evaluation in shown["evaluations"]] == [12]
    assert "finished at step 12 of 12" in finished("runs", "show", "one").out


def test_where_selects_runs_by_settings_and_results(finished) -> None:
    def listed(where: str) -> list[str]:
        return [run["id"] for run in json.loads(finished("runs", "list", "--where", where, "--json").out)["runs"]]

    assert listed("state:finished step=12 i2t_r1>=0") == ["one"]
    assert listed("state:running") == []
    assert "matches: nothing" in finished("runs", "list", "--where", "nothing").out
    wrong = finished("runs", "list", "--where", "stat:finished")
    assert wrong.code == 2
    assert "near to it: state" in wrong.err


@pytest.fixture
def diagnosed(workbench):
    """A run of 12 steps with a conflict of fd and clip, and a snapshot of a later step."""
    run = create_run(Path("runs"), "one", "")
    with EventLog(run.events_file) as log:
        log.append(RunFinished(run="one", step=12, state="finished", elapsed_s=1.0))
    products_KK = np.array([[4.0, -1.0], [-1.0, 1.0]])
    for step in (1, 6, 12, 18):
        write_snapshot(run, Gradients(step, ("clip", "fd"), dict.fromkeys(PLACES, products_KK)))
    return workbench


def test_gradients_are_a_table_by_step_with_conflicts(diagnosed) -> None:
    out = diagnosed("runs", "show", "one", "--gradients").out
    assert "66.7%" in out
    assert "after step 12" in out
    assert "metric" not in out  # what it measured is asked for without --gradients
    assert "\N{MINUS SIGN}0.50*" in out
    assert "conflicts: clip and fd" in out


def test_reports_of_a_run_fit_eighty_columns(diagnosed, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("runs/one/run.toml").write_text(tomli_w.dumps(load_recipe("clip-kd").model_dump(mode="json")))
    for option in ("--gradients", "--departures"):
        out = diagnosed("runs", "show", "one", option).out
        lines = [line for line in out.splitlines() if str(Path.cwd()) not in line]  # a path is never broken
        assert max(map(cell_len, lines)) <= 80


def test_gradients_are_in_json(diagnosed) -> None:
    document = json.loads(diagnosed("runs", "show", "one", "--gradients", "--json").out)
    assert "gradients" not in json.loads(diagnosed("runs", "show", "one", "--json").out)
    gradients = document["gradients"]
    assert [pull["step"] for pull in gradients["pulls"]] == [1, 1, 6, 6, 12, 12]
    assert gradients["tower_cosines"] == [[1, -0.5], [-0.5, 1]]
    assert gradients["num_unreadable"] == 0


def test_gradients_are_drawn(diagnosed) -> None:
    assert "figure: new/one.png" in diagnosed("runs", "show", "one", "--gradients", "--figure", "new/one.png").out
    assert Path("new/one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--figure", "one.png"], "--gradients, --architecture and --detections"),
        (["--gradients", "--figure", "one.gif"], "unknown figure format '.gif'"),
        (["--gradients", "--figure", "runs/one/run.toml/one.png"], "name another with --figure FILE"),
    ],
)
def test_a_figure_that_cannot_be_written_is_an_error(diagnosed, arguments: list[str], remedy: str) -> None:
    result = diagnosed("runs", "show", "one", *arguments)
    assert result.code == 2
    assert remedy in result.err


def test_a_run_without_gradients_reports_how_to_get_them(diagnosed) -> None:
    for snapshot in Path("runs/one/snapshots").iterdir():
        snapshot.unlink()
    result = diagnosed("runs", "show", "one", "--gradients")
    assert result.code == 2
    assert "log.diagnose_every_steps" in result.err


def test_an_empty_folder_prints_how_to_start(workbench) -> None:
    assert "workbench train" in workbench("runs", "list").out


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["show", "onee"], "did you mean 'one'?"),
        (["stop", "one"], "finished"),
        (["resume", "one"], "nothing to resume"),
    ],
)
def test_what_cannot_be_done_is_said(finished, arguments: list[str], remedy: str) -> None:
    result = finished("runs", *arguments)
    assert result.code == 2
    assert remedy in result.err


def test_evaluate_measures_a_finished_run(finished) -> None:
    result = finished("evaluate", "one", "--pairs", "40", "--json")
    document = json.loads(result.out)
    assert document.keys() >= {"source", "num_pairs", "metrics"}
    trained = json.loads(finished("runs", "show", "one", "--json").out)["metrics"]
    assert document["metrics"] == trained


def test_resume_takes_new_paths_and_nothing_else(workbench, tiny_recipe: str, tmp_path: Path) -> None:
    calls = iter(range(100))
    started = launch({"one": load_recipe(tiny_recipe)}, tmp_path / "runs")
    for _ in started.events(lambda: next(calls) == 5):
        pass
    refused = workbench("runs", "resume", "one", "--set", "train.num_steps=20")
    assert (refused.code, "workbench runs fork one --set train.num_steps" in refused.err) == (2, True)
    shutil.copytree(started.cohort.members[0].config.teacher.model, tmp_path / "moved")
    resumed = workbench("runs", "resume", "one", "--set", "teacher.model=moved")
    assert resumed.code == 0, resumed.err
    assert read_toml(tmp_path / "runs" / "one" / "run.toml")["teacher"]["model"] == str(tmp_path / "moved")


def test_evaluate_needs_something_to_measure(workbench) -> None:
    result = workbench("evaluate", "nothing")
    assert result.code == 2
    assert "nothing" in result.err


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
    from workbench.runs import checkpoints

    def copy_after_removal(checkpoint: Path, copy: Path) -> None:
        if checkpoint.name == "step-00000012":
            shutil.rmtree(checkpoint)  # as by its run, which is a step further
        real(checkpoint, copy)

    real = checkpoints._copy
    monkeypatch.setattr(checkpoints, "_copy", copy_after_removal)
    steps = ("--steps", "24")
    result = finished("runs", "fork", "one", *steps, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["id"] == "one-at8"

    def copy_too_late(checkpoint: Path, copy: Path) -> None:
        shutil.rmtree(checkpoint)
        real(checkpoint, copy)

    monkeypatch.setattr(checkpoints, "_copy", copy_too_late)
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
