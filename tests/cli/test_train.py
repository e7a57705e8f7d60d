import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status

DOCUMENT = {"id", "dir", "state", "num_steps", "metrics", "weights_sha256", "kept_fraction"}


def test_a_run_prints_its_metrics_and_leaves_a_directory(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one")
    assert result.code == 0
    assert "image→text R@1" in result.out
    assert "step 12/12" in result.err
    assert Path("runs/one/summary.json").is_file()


def test_json_is_one_document_and_nothing_else(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one", "--json")
    document = json.loads(result.out)
    assert document.keys() >= DOCUMENT
    assert (document["id"], document["state"], document["num_steps"]) == ("one", "finished", 12)
    assert len(document["weights_sha256"]) == 64


def test_steps_seed_and_settings_are_taken(workbench, tiny_recipe: str) -> None:
    from workbench.config.toml import load_run_config

    arguments = ["--steps", "6", "--seed", "3", "--set", "loss.icl.weight=2"]
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one", *arguments).code == 0
    config = load_run_config(Path("runs/one/run.toml"))
    assert (config.train.num_steps, config.log.checkpoint_every_steps) == (6, 2)
    assert (config.seed, config.data.seed, config.loss["icl"].weight) == (3, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--recipe", "clipkd"], "did you mean 'clip-kd'?"),
        (["--recipe", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--set", "optimizer.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["--set", "loss.icll.weight=1"], "did you mean 'icl'?"),
        (["--set", "loss.icl.weight=-1"], "loss.icl.weight"),
        (["--set", "loss.icl.weight"], "write it as key=value"),
        (["--set", "optimizer.learning_rate=nan"], "learning_rate"),
        (["--set", "data.train=nowhere"], "no such data"),
        (["--set", "train.batch_size=61"], "lower train.batch_size"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--no-test", "--set", "data.test=samples:scenes"], "--no-test and --set data.test"),
        (["--name", "a/b"], "at most 100"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(workbench, tiny_recipe: str, arguments: list[str], remedy: str) -> None:
    if "--recipe" not in arguments:
        arguments = ["--recipe", tiny_recipe, *arguments]
    result = workbench("train", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize("command", [["train"], ["teacher", "train"]])
def test_no_test_leaves_the_test_pairs_out(workbench, tiny_recipe: str, command: list[str]) -> None:
    tested = ["--set", "data.num_test_pairs=30", "--set", "data.test=auto", "--steps", "1"]
    arguments = ["--recipe", tiny_recipe, "--json"]
    whole = json.loads(workbench(*command, *arguments, *tested).out)
    assert whole["test_metrics"].keys() == whole["metrics"].keys()
    without = workbench(*command, *arguments, "--set", "data.num_test_pairs=30", "--steps", "1", "--no-test")
    assert json.loads(without.out)["test_metrics"] == {}
    assert "test" not in without.err


@pytest.mark.parametrize("more", [[], ["--set", "log.keep_checkpoints=1"]])
def test_too_small_a_disk_is_one_line_and_leaves_nothing(
    workbench, tiny_recipe: str, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    small = shutil.disk_usage("/")._replace(free=50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    result = workbench("train", "--recipe", tiny_recipe, *more)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "disk full at" in result.err
    assert "has 50 kB" in result.err
    assert "--runs DIR" in result.err
    assert ("--set log.keep_checkpoints=1" in result.err) == (not more)  # which is of no use twice
    assert list(Path("runs").iterdir()) == []


def test_two_runs_cannot_share_a_name(workbench, tiny_recipe: str) -> None:
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one")
    assert result.code == 2
    assert "choose another --name" in result.err


def test_a_diverged_run_exits_with_1_and_names_the_step(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--set", "optimizer.learning_rate=1e20", "--name", "hot")
    assert result.code == 1
    assert "was not finite at step" in result.out


@pytest.mark.parametrize(
    "command",
    [
        "train --recipe RECIPE --detach",
        "runs fork one --steps 24",
        "demo --steps 2",
        "sweep --study icl_weight",
        "sweep --study icl_weight --quick",
        "teacher train --recipe RECIPE",
        "calibrate --recipe RECIPE",
    ],
)
def test_commands_of_one_process_refuse_ranks(
    workbench, tiny_recipe: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if command.startswith("runs"):
        assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = workbench(*command.replace("RECIPE", tiny_recipe).split())
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("workbench: WORLD_SIZE is 2")
    assert "workbench sweep --workers N" in line
    assert [path.name for path in Path("runs").glob("*")] in ([], ["one"])


@pytest.mark.parametrize("command", ["train --recipe RECIPE", "runs resume one"])
def test_an_incomplete_launcher_is_named(workbench, tiny_recipe: str, monkeypatch, command: str) -> None:
    if command.startswith("runs"):
        assert workbench("train", "--recipe", tiny_recipe, "--name", "one", "--set", "train.num_steps=2").code == 0
        Path("runs/one/summary.json").unlink()
        Path("runs/one/events.jsonl").write_text("")  # as of a run that was killed at its start
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = workbench(*command.replace("RECIPE", tiny_recipe).split())
    assert result.code == 2
    assert "without RANK and MASTER_ADDR and MASTER_PORT" in result.err.splitlines()[-1]
    assert "torchrun" in result.err


def test_one_rank_trains(workbench, tiny_recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0


def test_a_run_whose_folder_is_deleted_fails(workbench, tiny_recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.cli import train
    from workbench.events import StepDone

    def show(events, _):
        for event in events:
            if isinstance(event, StepDone) and event.step == 6:
                shutil.rmtree("runs/one")
            yield event

    monkeypatch.setattr(train, "show", show)
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("workbench: run one failed: its folder ")
    assert not Path("runs/one").exists()


def start(recipe: str, folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "workbench", "train", "--recipe", recipe, "--name", "one", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_steps(run: RunDirectory, count: int = 3) -> None:
    until = time.monotonic() + 120
    while not run.events_file.exists() or len(run.events_file.read_bytes().splitlines()) < count:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_the_run_can_be_resumed(
    tiny_recipe: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(tiny_recipe, tmp_path, "--steps", "20000")
    run = RunDirectory(tmp_path / "runs" / "one")
    wait_for_steps(run)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert b"workbench runs resume" in out
    status = run_status(run)
    assert status.state == "interrupted"
    assert (run.checkpoints / f"step-{status.step:08d}").is_dir()


@pytest.mark.slow
def test_a_detached_run_outlives_its_command_and_handles_commands(workbench, tiny_recipe: str, tmp_path: Path) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--steps", "20000", "--name", "one", "--detach", "--json")
    assert json.loads(result.out)["state"] == "running"
    run = RunDirectory(tmp_path / "runs" / "one")
    wait_for_steps(run)
    busy = workbench("runs", "resume", "one")
    assert busy.code == 2
    assert "is being written by process" in busy.err
    assert workbench("runs", "stop", "one").code == 0
    until = time.monotonic() + 60
    while run_status(run).state == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert run_status(run).state == "stopped"


@pytest.mark.slow
def test_a_detached_run_that_cannot_start_reports_why_and_leaves_nothing(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--set", "data.train=nowhere", "--detach")
    assert result.code == 2
    assert "no such data" in result.err
    assert list(Path().glob("runs/*")) == []


def test_a_failed_run_reports_why_once(workbench, tiny_recipe: str) -> None:
    lines = ["filepath,title"]
    for number in range(60):
        Image.new("RGB", (8, 8), (4 * number, 0, 0)).save(f"{number}.png")
        lines.append(f"{number}.png,caption {number}")
    for number in range(0, 56, 14):  # beyond what is passed over, and not enough to be refused before the first step
        Path(f"{number}.png").write_bytes(b"<html>")
    Path("pairs.csv").write_text("\n".join(lines))
    settings = ["data.train=pairs.csv", "data.num_pairs=0", "data.validation=", "data.prepare=off"]
    sets = [part for setting in settings for part in ("--set", setting)]
    result = workbench("train", "--recipe", tiny_recipe, *sets, "--name", "one")
    assert result.code == 1
    assert result.err.count("too many images cannot be used") == 1
    assert "one  failed: " in result.err
