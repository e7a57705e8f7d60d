"""A process beside the run, with a tool of our making in the place of a real one."""

import os
import signal
import time

import pytest

from workbench.adapters.beside import start_beside
from workbench.runs.lock import RunLock

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


def test_it_ends_with_the_run_and_says_where_the_copy_is(run, say, make, tool) -> None:
    with RunLock(run):
        copy = start_beside(run, tool(FINE))
        say(make.started(), make.step_done(10, 3.0))
        assert copy.apart.is_alive
        say(make.finished(10))
    assert "one is in trackio up to step 10; see it with: TRACKIO_DIR=" in copy.last_words(30)
    assert not copy.apart.is_alive


def test_one_that_hangs_is_left_alone(run, say, make, tool) -> None:
    say(make.started(), make.step_done(10, 3.0), make.finished(10))
    copy = start_beside(run, tool(SLEEPS))
    try:
        begun_s = time.monotonic()
        assert f"trackio is still writing, as process {copy.apart.pid}" in copy.last_words(0.3)
        assert time.monotonic() - begun_s < 2
    finally:
        os.kill(copy.apart.pid, signal.SIGKILL)


def test_one_that_is_killed_leaves_the_command_to_do_it_again(run, say, make, tool) -> None:
    say(make.started(), make.step_done(10, 3.0), make.finished(10))
    copy = start_beside(run, tool(SLEEPS))
    os.kill(copy.apart.pid, signal.SIGKILL)
    expected = f"once more with: workbench runs export {run.path} --to trackio"
    assert copy.last_words(10).endswith(expected)


def test_only_its_own_words_are_passed_on(run, say, make, tool) -> None:
    say(make.started(), make.finished(0))
    (run.path / "trackio.log").write_text("words of an earlier life\n")
    copy = start_beside(run, tool("import os\nprint('hello', flush=True)\nos.kill(os.getpid(), 9)\n"))
    assert "trackio was killed" in copy.last_words(30)
