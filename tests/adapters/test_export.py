"""Exports in this and in a separate process, with fake tools and with a sink in memory."""

import os
import shutil
import signal
import threading
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.adapters import export as module
from workbench.adapters.export import TOOLS, check_tool, export, export_command, start_export
from workbench.events import Forked
from workbench.runs.directory import create_run
from workbench.runs.liveness import RunLock
from workbench.runs.log import EventLog

ROOT = Path(__file__).parents[2]
FINE = """
def init(*_, **__): pass
def log(*_, **__): pass
def finish(): pass
class Api:
    def runs(self, project): return []
"""
SLEEPS = FINE + "\nimport time\ndef log(*_, **__): time.sleep(600)\n"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """``tool(source)``: the package called trackio, for the processes that are started."""

    def write(source: str) -> str:
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "trackio.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
        return "trackio"

    return write


def test_it_ends_with_the_run_and_reports_where_the_copy_is(run, say, make, tool) -> None:
    with RunLock(run):
        copy = start_export(run, tool(FINE))
        say(make.started(), make.step_done(10, 3.0))
        assert copy.process.is_alive
        say(make.finished(10))
    assert "one is in trackio up to step 10; see it with: TRACKIO_DIR=" in copy.outcome(30)
    assert not copy.process.is_alive


def test_an_export_that_hangs_is_left_running(run, say, make, tool) -> None:
    say(make.started(), make.step_done(10, 3.0), make.finished(10))
    copy = start_export(run, tool(SLEEPS))
    try:
        begun_s = time.monotonic()
        assert f"trackio is still writing, as process {copy.process.pid}" in copy.outcome(0.3)
        assert time.monotonic() - begun_s < 2
    finally:
        os.kill(copy.process.pid, signal.SIGKILL)


def test_a_killed_export_reports_the_command_to_retry(run, say, make, tool) -> None:
    say(make.started(), make.step_done(10, 3.0), make.finished(10))
    copy = start_export(run, tool(SLEEPS))
    os.kill(copy.process.pid, signal.SIGKILL)
    expected = f"retry with: workbench runs export {run.path} --to trackio"
    assert copy.outcome(10).endswith(expected)


def test_only_its_own_messages_are_passed_on(run, say, make, tool) -> None:
    say(make.started(), make.finished(0))
    (run.path / "trackio.log").write_text("words of an earlier life\n")
    copy = start_export(run, tool("import os\nprint('hello', flush=True)\nos.kill(os.getpid(), 9)\n"))
    assert "trackio was killed" in copy.outcome(30)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_POLL_S", 0.01)


def follow(run, sinks, make_sink):
    """The thread that follows the run, and the list into which its result goes."""
    results = []

    def work() -> None:
        def open_sink():
            sinks.append(make_sink())
            return sinks[-1]

        try:
            results.append(export(run, open_sink, follows=True))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, results


def wait_for(condition) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_finished_run_is_exported_completely(run, say, make, fake_sink) -> None:
    say(make.started(), make.step_done(10, 3.0), make.eval_done(10, 0.5), make.step_done(20, 2.0), make.finished(20))
    sink = fake_sink()
    exported = export(run, lambda: sink)
    assert sink.losses == {10: 3.0, 20: 2.0}
    assert (10, {"validation/image_to_text_r1": 0.5}) in sink.moments
    assert sink.states == ["finished"]
    assert exported == (3, 20, "see it nowhere")


def test_a_running_run_is_exported_up_to_its_last_step(run, say, make, fake_sink) -> None:
    sink = fake_sink()
    with RunLock(run):
        say(make.started(), make.step_done(10, 3.0))
        export(run, lambda: sink)
    assert (sink.losses, sink.states) == ({10: 3.0}, ["running"])


def test_steps_discarded_by_a_resume_are_left_out(run, say, make, fake_sink) -> None:
    say(make.started(), make.step_done(10, 3.0), make.step_done(20, 9.0), make.step_done(30, 9.0))
    say(make.resumed(10), make.step_done(20, 2.0), make.finished(20))
    sink = fake_sink()
    export(run, lambda: sink)
    assert sink.losses == {10: 3.0, 20: 2.0}


def test_a_truncated_line_is_skipped(run, say, make, fake_sink) -> None:
    say(make.started(), make.step_done(10, 3.0))
    with run.events_file.open("a") as log:
        log.write('{"schema":1,"event":"StepDone","run":"one","st')
    sink = fake_sink()
    export(run, lambda: sink)
    assert sink.losses == {10: 3.0}


def test_following_ends_with_the_run(run, say, make, fake_sink) -> None:
    sinks = []
    with RunLock(run):
        thread, results = follow(run, sinks, fake_sink)
        say(make.started(), make.step_done(10, 3.0))
        wait_for(lambda: sinks and sinks[0].losses)
        say(make.step_done(20, 2.0))
        wait_for(lambda: 20 in sinks[0].losses)
        assert thread.is_alive()
        say(make.step_done(30, 1.0), make.finished(30, "diverged"))
    thread.join(20)
    assert results == [(3, 30, "see it nowhere")]
    assert (sinks[0].losses, sinks[0].states) == ({10: 3.0, 20: 2.0, 30: 1.0}, ["diverged"])


def test_following_ends_when_the_process_dies(run, say, make, fake_sink) -> None:
    sinks = []
    with RunLock(run):
        say(make.started(), make.step_done(10, 3.0))
        thread, results = follow(run, sinks, fake_sink)
        wait_for(lambda: sinks and sinks[0].losses)
    thread.join(20)
    assert len(results) == 1
    assert sinks[0].states == ["dead"]


def test_a_run_that_is_resumed_meanwhile_is_exported_again(run, say, make, fake_sink) -> None:
    sinks = []
    with RunLock(run):
        thread, results = follow(run, sinks, fake_sink)
        say(make.started(), make.step_done(10, 3.0), make.step_done(20, 9.0))
        wait_for(lambda: sinks and 20 in sinks[0].losses)
        say(make.resumed(10), make.step_done(20, 2.0), make.finished(20))
    thread.join(20)
    assert results == [(2, 20, "see it nowhere")]
    assert sinks[-1].losses == {10: 3.0, 20: 2.0}
    assert [sink.states for sink in sinks] == [["running"], ["finished"]]


def test_a_replaced_log_is_read_from_its_start(run, say, make, fake_sink) -> None:
    sinks = []
    with RunLock(run):
        say(make.started(), *(make.step_done(step, 9.0) for step in range(10, 60, 10)))
        thread, _ = follow(run, sinks, fake_sink)
        wait_for(lambda: sinks and 50 in sinks[0].losses)
        run.events_file.write_text("")
        wait_for(lambda: len(sinks) == 2)
        say(make.step_done(10, 1.0), make.finished(10))
    thread.join(20)
    assert sinks[-1].losses == {10: 1.0}


def test_a_removed_run_ends_the_export_with_an_error(run, say, make, fake_sink) -> None:
    sinks = []
    with RunLock(run):
        say(make.started())
        thread, results = follow(run, sinks, fake_sink)
        wait_for(lambda: sinks and sinks[0].num_flushes)
        shutil.rmtree(run.path)
        thread.join(20)
    assert "run one is gone" in str(results[0])


@pytest.mark.parametrize("place", ["write", "flush", "close"])
def test_an_error_of_a_sink_is_raised_and_the_run_is_unchanged(run, say, make, fake_sink, place: str) -> None:
    say(make.started(), make.step_done(10, 3.0), make.finished(10))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    sink = fake_sink(place)
    with pytest.raises(RuntimeError, match=f"cannot {place}"):
        export(run, lambda: sink)
    assert sink.states  # it was closed
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_the_export_of_a_fork_starts_with_the_shared_history(run, say, make, fake_sink) -> None:
    say(make.started(), make.step_done(10, 3.0), make.step_done(20, 2.0), make.finished(20))
    fork = create_run(run.path.parent, "two", run.config_file.read_text())
    with EventLog(fork.events_file) as log:
        began_s = run.events_file.read_text().partition('"time_s":')[2].partition(",")[0]
        log.append(Forked(run="two", step=10, parent="one", parent_step=10, parent_began_s=float(began_s)))
        log.append(make.step_done(20, 1.5, run="two"))
    sink = fake_sink()
    export(fork, lambda: sink)
    assert sink.losses == {10: 3.0, 20: 1.5}


ROUNDS = st.lists(st.tuples(st.integers(0, 5), st.lists(st.floats(0, 9), min_size=1, max_size=5)), max_size=4)


@given(ROUNDS)
def test_after_several_resumes_each_step_has_its_last_value(tmp_path_factory, make, fake_sink, rounds) -> None:
    run = create_run(tmp_path_factory.mktemp("runs"), "one", "")
    expected: dict[int, float] = {}
    with EventLog(run.events_file) as log:
        log.append(make.started())
        for back, losses in rounds:
            base = max(expected, default=0)
            begin = max(0, base - back)
            log.append(make.resumed(begin))
            expected = {step: loss for step, loss in expected.items() if step <= begin}
            for step, loss in enumerate(losses, begin + 1):
                log.append(make.step_done(step, loss))
                expected[step] = loss
    sink = fake_sink()
    export(run, lambda: sink)
    assert sink.losses == expected
    steps = [step for step, _ in sink.moments]
    assert steps == sorted(steps)


def test_each_tool_is_an_extra_that_installs_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for tool in TOOLS:
        assert [requirement.startswith(tool) for requirement in extras[tool]] == [True]


def test_an_unknown_tool_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        check_tool("tensorbord")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_package_is_one_line_with_the_extra(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"pip install 'clip-distillation-workbench\[{tool}\]'"):
        check_tool(tool)


def test_the_folder_that_a_tool_writes_is_not_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_tool").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(module.TOOLS, "no_such_tool", "No such tool")
    with pytest.raises(ValueError, match="No such tool is not installed"):
        check_tool("no_such_tool")


def test_an_installed_one_passes_and_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    check_tool("trackio")


def test_the_command_can_be_pasted(run) -> None:
    assert export_command(run, "wandb") == f"workbench runs export {run.path} --to wandb"
