"""What signals ask of a command that trains, and a terminal that goes away meanwhile."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.cli.interrupt import listening
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status


@pytest.fixture(autouse=True)
def _streams_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGHUP they stay as they are: the process is about to end."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_a_second_hangup_changes_nothing(first: signal.Signals) -> None:
    with listening() as interrupt:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.exit_code == 128 + first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_under_nohup_a_hangup_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_what_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with listening() as interrupt:
            os.close(reader)
            os.kill(os.getpid(), signal.SIGTERM)  # whose line nobody reads
            print("another", file=sys.stderr, flush=True)
            assert interrupt()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_terminal_that_closes_ends_the_run_resumable(tiny_recipe: str, tmp_path: Path, workers: int) -> None:
    """As when an ssh connection breaks: the kernel hangs up, output fails, and SIGHUP reaches the process group."""
    master, terminal = pty.openpty()
    words = [
        "train",
        "--recipe",
        tiny_recipe,
        "--name",
        "one",
        "--steps",
        "20000",
        "--set",
        f"data.num_workers={workers}",
    ]
    script = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from workbench.cli.app import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.set_blocking(master, False)
    run = RunDirectory(tmp_path / "runs" / "one")
    until = time.monotonic() + 120
    while not run.events_file.exists() or len(run.events_file.read_bytes().splitlines()) < 3:
        assert time.monotonic() < until
        try:
            os.read(master, 65536)
        except BlockingIOError:
            time.sleep(0.05)
    os.close(master)
    assert process.wait(timeout=60) == 129
    status = run_status(run)
    assert status.state == "interrupted"
    assert (run.checkpoints / f"step-{status.step:08d}").is_dir()
