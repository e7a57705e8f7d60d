"""A run killed again and again after saving at every step: what it leaves is complete and resumes."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from workbench.cli.runs import resume
from workbench.engine.launch import create, relaunch
from workbench.events import CheckpointSaved, RunResumed
from workbench.files import REPLACED, TEMPORARY
from workbench.models.spec import load_model
from workbench.models.weights import weights_sha256
from workbench.runs.checkpoints import checkpoint_step, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_events

NUM_KILLS = 50
MOMENTS_S = 0.25  # a few saves long


@pytest.mark.slow
def test_fifty_of_fifty_killed_runs_are_readable_and_resume(tiny, tmp_path: Path) -> None:
    """SIGKILL at seeded moments: mostly amid the saving, now and then while the run is only coming up."""
    config = tiny(train={"num_steps": 1_000_000}, log={"every_steps": 1, "checkpoint_every_steps": 1})
    run = create("run", config, tmp_path)
    draw = random.Random(0)
    last, num_readable, num_amid = 0, 0, 0
    for kill in range(NUM_KILLS):
        _resume_and_kill(run, draw, amid_saving=kill % 5 > 0)
        checkpoint = newest_checkpoint(run)
        assert checkpoint is not None
        student = load_model(f"run:{run.path}", runs_dir=tmp_path)
        manifest = read_manifest(checkpoint)
        assert weights_sha256(student.towers) == manifest["weights_sha256"]
        assert checkpoint_step(checkpoint) == manifest["step"] >= last
        read = read_events(run.events_file)
        saved = [event.step for event in read.events if isinstance(event, CheckpointSaved)]
        assert read.num_skipped <= kill + 1  # a torn last line a kill
        assert max(saved) <= manifest["step"]
        num_amid += bool(_litter(run))
        assert len(_litter(run)) <= 3  # of the one write that was under way, and no more than that piles up
        last = manifest["step"]
        num_readable += 1
    assert (num_readable, last > NUM_KILLS) == (NUM_KILLS, True)
    assert num_amid > 0  # else the kills have proved nothing
    resumed = relaunch(run)
    assert _litter(run) == []
    calls = iter(range(10))
    first, *_ = resumed.events(lambda: next(calls) == 1)
    assert isinstance(first, RunResumed)
    assert first.step == last


def _resume_and_kill(run: RunDirectory, draw: random.Random, *, amid_saving: bool) -> None:
    """`workbench runs resume` in a process of its own, whose imports a server keeps at hand; SIGKILL ends it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.cli.runs", "workbench.engine.launch", "open_clip"])
    options = {"run": str(run.path), "log_to": None, "runs": run.path.parent, "json": True}
    process = context.Process(target=resume, kwargs=options)
    before = _num_saved(run)
    process.start()
    until = time.monotonic() + 120
    while (amid_saving or before == 0) and _num_saved(run) == before:
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.002)
    process.join(draw.uniform(0, MOMENTS_S))
    process.kill()
    process.join()


def _num_saved(run: RunDirectory) -> int:
    return run.events_file.read_bytes().count(b"CheckpointSaved")


def _litter(run: RunDirectory) -> list[Path]:
    folders = (run.path, run.checkpoints, run.snapshots)
    return [path for folder in folders for path in folder.iterdir() if path.name.startswith((TEMPORARY, REPLACED))]
