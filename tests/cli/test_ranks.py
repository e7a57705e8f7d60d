"""Several processes train one run from the command line: as torchrun starts them, and by ``--gpus``."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.test_distributed import free_port, spawn
from workbench.cli.ranks import run_ranks
from workbench.events import CheckpointSaved, EvalDone, EvalStarted, Event, RunFinished
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status, send_command
from workbench.runs.log import read_events

SETTINGS = [
    *("--set", "data.num_pairs=64", "--set", "data.num_validation_pairs=40", "--set", "train.batch_size=16"),
    *("--set", "log.every_steps=2", "--set", "evaluate.every_steps=5", "--set", "log.checkpoint_every_steps=4"),
    *("--set", "teacher.chunk_size=8", "--no-test"),
]
WORKBENCH = ["-m", "workbench"]
LONG = ["--steps", "5000"]


def arguments(name: str, *more: str, recipe: str = "clip-kd") -> list[str]:
    return [*WORKBENCH, "train", "--recipe", recipe, "--name", name, *SETTINGS, *more]


def ends(processes, timeout_s: float = 300) -> list[int]:
    codes = []
    for process in processes:
        out, err = process.communicate(timeout=timeout_s)
        codes.append(process.returncode)
        assert "Traceback" not in err, out + err
    return codes


def weights(name: str) -> str:
    return json.loads(Path(f"runs/{name}/summary.json").read_text())["weights_sha256"]


def events(name: str) -> list[Event]:
    file = Path(f"runs/{name}/events.jsonl")
    return read_events(file).events if file.is_file() else []


def measured(name: str) -> list[tuple[int, dict[str, float]]]:
    return [(event.step, event.metrics) for event in events(name) if isinstance(event, EvalDone)]


def until(condition, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def has_saved(name: str) -> bool:
    return any(isinstance(event, CheckpointSaved) for event in events(name))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["clip-kd", "tinyclip-auto", "mfd"])
def test_two_ranks_end_with_the_weights_of_one_process(workbench, recipe: str) -> None:
    assert ends(spawn(2, arguments("two", "--steps", "10", recipe=recipe))) == [0, 0]
    micro = ("--set", "train.micro_batch_size=8")
    assert workbench("train", "--recipe", recipe, "--name", "one", *SETTINGS, "--steps", "10", *micro).code == 0
    assert weights("two") == weights("one")
    assert measured("two") == measured("one") != []


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_another_number_of_ranks_goes_on() -> None:
    processes = spawn(2, arguments("two", *LONG))
    until(lambda: has_saved("two"))
    processes[1].kill()
    for process in processes:
        process.communicate(timeout=120)
    run = RunDirectory(Path("runs/two"))
    assert run_status(run).state in ("failed", "interrupted", "dead")

    # Three ranks go on from the checkpoint; a command reaches all of them.
    before = run_status(run).step
    processes = spawn(3, [*WORKBENCH, "runs", "resume", "two"])
    until(lambda: run_status(run).step > before)
    send_command(run, "set", **{"optimizer.learning_rate": 1e-4})
    send_command(run, "stop")
    assert ends(processes) == [0, 0, 0]
    assert run_status(run).state == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("who", [(0,), (0, 1), (1,)])
def test_a_signal_to_any_rank_saves_and_ends_all(who: tuple[int, ...]) -> None:
    processes = spawn(2, arguments("two", *LONG))
    until(lambda: has_saved("two"))
    for rank in who:
        processes[rank].send_signal(signal.SIGTERM)
    ends(processes)
    last = events("two")[-1]
    assert isinstance(last, RunFinished)
    assert last.state == "interrupted"
    assert any(isinstance(event, CheckpointSaved) and event.step == last.step for event in events("two"))


@pytest.mark.slow
def test_a_signal_during_an_evaluation_finishes_and_saves_it() -> None:
    # Three chunks of images, so that both ranks encode some, after every step.
    often = ("--set", "data.num_validation_pairs=600", "--set", "evaluate.every_steps=1")
    processes = spawn(2, arguments("two", *LONG, *often))
    until(lambda: isinstance([None, *events("two")][-1], EvalStarted))
    processes[1].send_signal(signal.SIGTERM)
    ends(processes)
    *_, saved, last = events("two")
    assert isinstance(last, RunFinished)
    assert isinstance(saved, CheckpointSaved)
    assert (last.state, last.step) == ("interrupted", saved.step)
    assert [step for step, _ in measured("two")] == list(range(1, last.step + 1))


def node(number: int, port: int, command: list[str], before: str = "true") -> "subprocess.Popen[str]":
    """One of two machines, each with a torchrun of its own, a rank and a cache; ``before`` is a shell command."""
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "two"]
    options += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    words = [sys.executable, "-m", "torch.distributed.run", *options, *command]
    cache = Path(f"cache-{number}").absolute()
    return subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f'{before} && exec "$@"', "sh", *words],
        env=os.environ | {"WORKBENCH_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_machines_train_as_two_ranks_on_one() -> None:
    Path("runs").mkdir()
    hidden = f"mount -t tmpfs none {Path('runs').absolute()}"  # the second machine has a runs folder of its own
    if subprocess.run(["unshare", "-m", "sh", "-c", hidden], check=False).returncode:
        pytest.skip("mount namespaces need root")
    cached = ("--steps", "10", "--set", "data.views=2", "--cache-teacher", "on")
    assert ends(spawn(2, arguments("one", *cached))) == [0, 0]
    port = free_port()
    command = arguments("two", *cached)
    assert ends([node(0, port, command), node(1, port, command, hidden)]) == [0, 0]
    assert weights("two") == weights("one")
    assert measured("two") == measured("one") != []
    assert all(any(Path(f"cache-{number}").rglob("*.bin")) for number in range(2))


@pytest.mark.slow
def test_the_launcher_runs_ranks_and_returns_their_status() -> None:
    assert run_ranks([sys.executable, *arguments("two", "--steps", "4")], 2) == 0
    assert json.loads(Path("runs/two/summary.json").read_text())["state"] == "finished"
    assert run_ranks([sys.executable, *arguments("two", "--steps", "4")], 2) == 2  # the name is taken


@pytest.mark.slow
def test_gpus_without_a_gpu_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.device_count() >= 2:
        pytest.skip("this machine has two GPUs")
    code = run_ranks([sys.executable, *arguments("two", "--gpus", "2")], 2, WORKBENCH_GPUS="2")
    assert code == 2
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert not Path("runs/two").exists()


@pytest.mark.slow
def test_batch_normalization_is_refused_with_the_reason() -> None:
    student = ["--set", "student.model=open_clip:RN50", "--set", "train.batch_size=8"]
    processes = spawn(2, arguments("two", "--steps", "2", *student))
    outputs = [process.communicate(timeout=240) for process in processes]
    assert processes[0].returncode == 2
    assert "batch normalization" in outputs[0][1]
    assert not Path("runs/two").exists()
