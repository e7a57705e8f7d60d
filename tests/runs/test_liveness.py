"""A run's state is never a lie."""

import os
import time

import pytest

from workbench.events import EvalDone, EvalStarted, RunResumed
from workbench.process import this_host
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.liveness import run_status
from workbench.runs.lock import Owner, RunLock
from workbench.runs.log import EventLog
from workbench.tui.words import is_quiet, state_text


@pytest.fixture
def say(run):
    def append(*events):
        with EventLog(run.events_file) as log:
            for event in events:
                log.append(event)

    return append


def elsewhere(run, since_s=0.0):
    owner = Owner(host="elsewhere", pid=1, started="x", boot="y", since_s=since_s)
    run.owner_file.write_text(owner.model_dump_json())


def test_a_run_that_has_not_begun(run):
    status = run_status(run)
    assert (status.state, status.step, status.num_steps, status.quiet_s) == ("new", 0, 0, None)
    assert (status.recipe, status.owner) == ("clip-kd", None)
    with RunLock(run):
        assert run_status(run).state == "new"


def test_a_run_of_a_live_process(run, say, started, step_done):
    with RunLock(run):
        say(started(), step_done(40, time_s=time.time() - 5))
        status = run_status(run)
    assert (status.state, status.step, status.num_steps) == ("running", 40, 600)
    assert status.quiet_s == pytest.approx(5, abs=2)
    assert status.owner.pid == os.getpid()


def test_a_live_process_is_running_however_long_it_is_silent(run, say, started):
    with RunLock(run):
        say(started(time_s=time.time() - 5000))
        assert run_status(run).state == "running"


def test_a_live_run_says_what_it_is_measured_on_until_that_is_done(run, say, started):
    begun = EvalStarted(run="one", step=40, split="test", num_pairs=5000, time_s=time.time() - 76)
    with RunLock(run):
        say(started(), begun)
        assert run_status(run).evaluating == "test"
        assert not is_quiet(run_status(run), 1.0)
        assert state_text(run_status(run), is_quiet=False) == "evaluating"
        say(EvalDone(run="one", step=40, split="test", num_pairs=5000, metrics={}, elapsed_s=76, time_s=begun.time_s))
        assert run_status(run).evaluating == ""
        assert is_quiet(run_status(run), 1.0)
    say(begun)
    assert run_status(run).evaluating == ""  # its process is gone


@pytest.mark.parametrize("state", ["finished", "stopped", "interrupted", "diverged", "failed"])
def test_a_run_that_ended_is_what_it_said(run, say, started, step_done, finished, state):
    with RunLock(run):
        say(started(), step_done(10), finished(10, state=state))
        assert run_status(run).state == state
    assert run_status(run).state == state


def test_a_killed_process_leaves_a_dead_run(run, say, started, step_done, forked):
    def train():
        with RunLock(run):
            say(started(), step_done(10))
            time.sleep(60)

    with forked(train) as process:
        while run_status(run).step < 10:
            time.sleep(0.01)
        assert run_status(run).state == "running"
        process.kill()
        process.join()
        assert run_status(run).state == "dead"


def test_a_killed_process_that_is_not_yet_buried_is_dead(run, say, started):
    child = os.fork()
    if child == 0:
        RunLock(run).__enter__()
        say(started())
        os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert run_status(run).state == "dead"
    os.waitpid(child, 0)
    assert run_status(run).state == "dead"


def test_a_process_that_died_before_its_first_event(run, forked):
    def load(run):
        RunLock(run).__enter__()
        os.kill(os.getpid(), 9)

    with forked(load, run) as process:
        process.join()
    assert run_status(run).state == "dead"


def test_an_orderly_end_without_a_word_is_dead(run, say, started):
    with RunLock(run):
        say(started())
    assert run_status(run).state == "dead"


def test_another_hosts_run_is_running_until_it_is_silent(run, say, started, step_done, finished):
    elsewhere(run)
    assert run_status(run).state == "silent"
    say(started(host="elsewhere"), step_done(3, time_s=time.time() - 599))
    assert run_status(run).state == "running"
    say(step_done(4, time_s=time.time() - 601))
    assert run_status(run).state == "silent"
    say(finished(4, time_s=time.time() - 600))
    assert run_status(run).state == "finished"


def test_another_hosts_run_copied_here_without_its_lock(run, say, started):
    say(started(host="elsewhere", time_s=time.time() - 90))
    assert run_status(run).state == "running"
    say(RunResumed(run=run.id, step=0, host=this_host(), pid=1, time_s=time.time() - 90))
    assert run_status(run).state == "dead"


def test_a_resumed_run_is_no_longer_what_it_ended_as(run, say, started, step_done, finished):
    say(started(), step_done(10), finished(10, state="stopped", time_s=time.time() - 50))
    with RunLock(run):
        assert run_status(run).state == "running"  # models are loading: not a word yet
        say(RunResumed(run=run.id, step=8, host=this_host(), pid=os.getpid()))
        status = run_status(run)
        assert (status.state, status.step) == ("running", 8)
    assert run_status(run).state == "dead"


def test_a_run_whose_files_are_garbage_still_has_a_state(run):
    run.events_file.write_bytes(b"\xff\x00\n{\n")
    run.config_file.write_bytes(b"\xff = [")
    run.owner_file.write_bytes(b"{")
    status = run_status(run)
    assert (status.state, status.recipe) == ("new", "")


def test_two_hundred_runs_are_looked_at_in_half_a_second(tmp_path, started, step_done, finished):
    lines = [started(), *(step_done(step) for step in range(300))]
    log = "".join(event.to_line() + "\n" for event in lines)
    config = "".join(f'setting_{number} = "value"\n' for number in range(80))
    for number in range(200):
        run = RunDirectory(tmp_path / f"run-{number}")
        run.path.mkdir()
        run.config_file.write_text('recipe = "clip-kd"\n' + config)
        ending = finished(300).to_line() + "\n" if number % 2 else ""
        run.events_file.write_text(log + ending)

    def look() -> float:
        start = time.process_time()  # not the clock: the machine may be busy
        states = [run_status(run).state for run in list_runs(tmp_path)]
        assert sorted(states) == ["dead"] * 100 + ["finished"] * 100
        return time.process_time() - start

    assert min(look() for _ in range(3)) < 0.5
