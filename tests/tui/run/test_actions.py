"""A real run in a separate process: every command by its key, and its effect on the run."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from workbench.events import CheckpointSaved, Commanded, Forked, RunFinished
from workbench.runs.directory import find_run, list_runs
from workbench.runs.liveness import run_status
from workbench.runs.log import read_events

pytestmark = pytest.mark.slow
SETTINGS = [
    *("--set", "train.num_steps=20000"),
    *("--set", "train.batch_size=16"),
    *("--set", "data.num_pairs=64"),
    *("--set", "data.num_validation_pairs=40"),
    *("--set", "evaluate.every_steps=0"),
    *("--set", "log.every_steps=2"),
]


@pytest.fixture
def live(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A run that trains until it is stopped, in the dashboard's folder."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "workbench", "train", "--recipe", "icl", "--name", "live", "--runs", str(runs)]
    process = subprocess.Popen([*command, *SETTINGS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield lambda: find_run(runs, "live")
    if process.poll() is None:
        process.kill()
    process.wait()
    for run in list_runs(runs):
        owner = run_status(run).owner
        if owner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)


def events_of(run, kind):
    return [event for event in read_events(run.events_file).events if isinstance(event, kind)]


async def send_commands(pilot, run, seen, soon) -> None:
    await soon(lambda: "running" in seen(pilot))
    await pilot.press("C", "y")
    await soon(lambda: events_of(run, CheckpointSaved), 120)

    await pilot.press("P", "y")
    await soon(lambda: "paused" in seen(pilot), 120)
    step = run_status(run).step
    await asyncio.sleep(2)
    assert run_status(run).step == step
    await pilot.press("P", "y")
    await soon(lambda: run_status(run).step > step, 120)

    await pilot.press("W")
    await pilot.pause()
    await pilot.press("ctrl+u", *"0.0005", "enter")
    await soon(lambda: any(event.command == "set" for event in events_of(run, Commanded)), 120)
    (command,) = [event for event in events_of(run, Commanded) if event.command == "set"]
    assert command.arguments == {"optimizer.learning_rate": 0.0005}


async def fork(pilot, run, seen, soon, notices) -> None:
    await pilot.press("F")
    await pilot.pause()
    assert "Starts a new run from live" in " ".join(seen(pilot).split())
    for _ in range(3):
        await pilot.press("tab")
    await pilot.press(*"fork", "enter")
    await soon(lambda: "fork is training" in notices(pilot), 240)
    forked = find_run(run.path.parent, "fork")
    assert [event.parent for event in events_of(forked, Forked)] == ["live"]


async def stop_and_resume(pilot, run, seen, soon, notices) -> None:
    await pilot.press("S", "y")
    await soon(lambda: events_of(run, RunFinished), 120)
    assert events_of(run, RunFinished)[-1].state == "stopped"
    await soon(lambda: "stopped" in seen(pilot))
    await pilot.press("S")
    await pilot.pause()
    assert "press R to resume it" in notices(pilot)

    await pilot.press("R", "y")
    await soon(lambda: run_status(run).state == "running", 240)


def test_every_command_reaches_the_run_and_is_answered(live, drive, seen, soon, notices, tmp_path) -> None:
    def exists() -> bool:
        return (tmp_path / "runs/live").is_dir() and run_status(live()).step > 0

    async def until_it_trains() -> None:
        await soon(exists, 240)

    asyncio.run(until_it_trains())
    run = live()

    async def steps(pilot) -> None:
        await send_commands(pilot, run, seen, soon)
        await fork(pilot, run, seen, soon, notices)
        await stop_and_resume(pilot, run, seen, soon, notices)

    drive(steps, run)
    assert run_status(run).state == "running"  # quitting touches nothing
