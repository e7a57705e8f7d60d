import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from rich.cells import cell_len

from workbench.config.toml import load_recipe, read_toml
from workbench.engine.launch import launch
from workbench.events import RunFinished
from workbench.runs.directory import create_run
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
        (["--figure", "one.png"], "--gradients and --architecture"),
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
