"""Worker processes on one storage: killed, suspended past their grace, or started twice, the grid is trained once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from workbench.events import RunFinished, StepDone
from workbench.runs.log import read_events
from workbench.runs.studies import runs_of_study

GRACE_S = 6
pytestmark = pytest.mark.slow


def start(folder, *options, study="grid.toml"):
    command = [sys.executable, "-m", "workbench", "sweep", "--study", study, "--grace", str(GRACE_S), *options]
    log = (folder / "workers.log").open("ab")
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)


def steps_taken(folder, seed):
    runs = [one.run for one in runs_of_study(folder / "runs", "grid") if one.origin.seed == seed]
    return max((event.step for run in runs for event in read_events(run.events_file, (StepDone,)).events), default=0)


def wait_until(condition, limit_s=300):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


@pytest.fixture
def long_runs(folder):
    """Runs long enough to be caught in the middle."""
    table = (folder / "tiny.toml").read_text().replace("num_steps = 6", "num_steps = 60")
    (folder / "tiny.toml").write_text(table)
    text = (folder / "grid.toml").read_text().replace("seeds = 2", "seeds = 3")
    (folder / "grid.toml").write_text(text)
    return folder


def trained_steps(run):
    """How often each step was logged by the run that counts."""
    return Counter(event.step for event in read_events(run.events_file, (StepDone,)).events)


def test_one_killed_and_one_suspended_and_the_grid_is_finished_once(long_runs):
    folder = long_runs
    sleeper = start(folder, "--as-worker")
    wait_until(lambda: steps_taken(folder, 0) >= 3)
    sleeper.send_signal(signal.SIGSTOP)
    victim = start(folder, "--as-worker")
    wait_until(lambda: steps_taken(folder, 1) >= 9)
    victim.kill()
    victim.wait()
    third = start(folder, "--json")
    out, _ = third.communicate(timeout=500)
    assert third.returncode == 0, (folder / "workers.log").read_text()
    document = json.loads(out)
    assert [(cell["state"], cell["seeds"]) for cell in document["cells"]] == [("finished", [0, 1, 2])] * 3
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(timeout=120) == 0, (folder / "workers.log").read_text()
    assert "reassigned to another worker" in (folder / "workers.log").read_text()
    counted = [run for cell in document["cells"] for run in cell["runs"]]
    assert len(counted) == len(set(counted)) == 9
    found = {one.run.id: one for one in runs_of_study(folder / "runs", "grid")}
    for run in counted:
        ends = [event.state for event in read_events(found[run].run.events_file, (RunFinished,)).events]
        assert ends.count("finished") == 1
    killed = [found[run].run for run in counted if found[run].origin.seed == 1]
    assert all(trained_steps(run)[3] == 1 for run in killed)  # resumed from its checkpoint, not begun anew
    after = start(folder, "--json")
    assert json.loads(after.communicate(timeout=300)[0]) == document


def test_several_workers_share_the_seeds_and_ctrl_c_ends_them_all(long_runs):
    folder = long_runs
    team = start(folder, "--workers", "2", "--json")
    wait_until(lambda: steps_taken(folder, 0) >= 3 and steps_taken(folder, 1) >= 3)
    team.send_signal(signal.SIGINT)
    team.communicate(timeout=300)
    assert team.returncode == 130, (folder / "workers.log").read_text()
    states = [
        read_events(one.run.events_file, (RunFinished,)).events[-1].state
        for one in runs_of_study(folder / "runs", "grid")
    ]
    assert "interrupted" in states
    again = start(folder, "--workers", "2", "--json")
    document = json.loads(again.communicate(timeout=500)[0])
    assert again.returncode == 0
    assert [cell["seeds"] for cell in document["cells"]] == [[0, 1, 2]] * 3
    runs = runs_of_study(folder / "runs", "grid")
    assert Counter((one.origin.cell, one.origin.seed) for one in runs).most_common(1)[0][1] == 1


def test_a_job_array_trains_the_study_and_is_requeued_when_time_is_up(long_runs, monkeypatch):
    folder = long_runs
    programs = folder / "bin"
    programs.mkdir()
    for name, text in {
        "srun": f'echo $$ > {folder}/pid; while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "scontrol": f'echo "$@" >> {folder}/requeued',
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    printed = start(folder, "--workers", "2", "--slurm")
    script = printed.communicate(timeout=100)[0]
    (folder / "job.sh").write_text(script)
    assert "--storage postgresql://" in (folder / "workers.log").read_text()
    task = subprocess.Popen(["bash", "job.sh"], cwd=folder)
    wait_until(lambda: steps_taken(folder, 0) >= 3)
    os.kill(int((folder / "pid").read_text()), signal.SIGUSR1)
    assert task.wait(timeout=100) == 138
    assert (folder / "requeued").read_text() == "requeue 7_0\n"
    assert subprocess.run(["bash", "job.sh"], cwd=folder, check=False, timeout=500).returncode == 0
    assert (folder / "requeued").read_text() == "requeue 7_0\n"
    runs = [one.run for one in runs_of_study(folder / "runs", "grid")]
    assert len(runs) == 9
    assert all(set(trained_steps(run).values()) == {1} for run in runs)  # resumed, not trained again


def test_two_commands_at_once_train_nothing_twice(folder):
    both = [start(folder, "--json") for _ in range(2)]
    documents = [json.loads(one.communicate(timeout=500)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0], (folder / "workers.log").read_text()
    assert documents[0] == documents[1]
    runs = [one.run for one in runs_of_study(folder / "runs", "grid")]
    assert len(runs) == 6
    for run in runs:
        assert len(read_events(run.events_file, (RunFinished,)).events) == 1
    assert sorted(os.listdir(folder / "runs" / "studies")) == ["grid.db", "grid.toml"]  # noqa: PTH208  # names, not paths


SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 2
trials = 4
confirm_seeds = 2
warm_start = ["tiny.toml"]
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
[tuned."tiny.toml"]
optimizer.learning_rate = { low = 1e-4, high = 1.0, log = true }
"""


def test_several_workers_search_tune_and_confirm_together(folder):
    (folder / "search.toml").write_text(SEARCH)
    team = start(folder, "--workers", "2", "--json", study="search.toml")
    document = json.loads(team.communicate(timeout=550)[0])
    said = (folder / "workers.log").read_text()
    assert team.returncode == 0, said
    assert "1: t000" in said
    assert "2: t000" in said
    assert " left" in said
    trained = {study: runs_of_study(folder / "runs", study) for study in ("search", "search-tiny", "search-best-of-4")}
    for study, num_cells in (("search", 4), ("search-tiny", 4), ("search-best-of-4", len(document["answers"]) + 1)):
        found = Counter((one.origin.cell, one.origin.seed) for one in trained[study])
        assert len(found) == 2 * num_cells
        assert set(found.values()) == {1}
    assert {one.origin.seed for one in trained["search-best-of-4"]} == {2, 3}
