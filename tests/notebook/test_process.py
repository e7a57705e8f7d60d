"""Child processes of a notebook: output, exit, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.notebook.process import Child
from workbench.process import started_at
from workbench.runs.directory import list_runs
from workbench.runs.liveness import run_status

WATCHING = """
import threading, time
from workbench.notebook.process import stop_with_parent
threading.Thread(target=stop_with_parent, daemon=True).start()
print("up", flush=True)
time.sleep(60)
"""

PARENT = """
import sys, time
from pathlib import Path
from workbench.notebook.process import Child
child = Child(["train", "--recipe", "baseline", "--steps", "4000", "--name", "long", "--runs", sys.argv[1],
               "--set", "data.num_pairs=200", "--set", "data.num_validation_pairs=100",
               "--set", "data.num_test_pairs=100"], Path(sys.argv[1]) / "log")
print(child.pid, flush=True)
time.sleep(600)
"""


def wait_until(what, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_command_runs_and_its_output_is_kept(tmp_path: Path) -> None:
    child = Child(["--help"], tmp_path / "log")
    wait_until(lambda: not child.is_alive, 60)
    assert child.exit_code == 0
    assert "Usage" in (tmp_path / "log").read_text()
    wrong = Child(["runs", "show", "nobody", "--runs", str(tmp_path)], tmp_path / "log")
    wait_until(lambda: not wrong.is_alive, 60)
    assert wrong.exit_code == 2
    assert "nobody" in wrong.last_line
    wrong.stop()  # no effect after its end


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot start workbench"):
        Child(["--help"], tmp_path / "no" / "log")


def test_closing_standard_input_ends_the_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", WATCHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "up\n"
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(20) == -signal.SIGTERM
    child.stdout.close()


@pytest.mark.slow
def test_killing_the_kernel_stops_its_training_with_a_checkpoint(tmp_path: Path) -> None:
    kernel = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    pid = int(kernel.stdout.readline())
    try:
        wait_until(lambda: any(run_status(run).step > 2 for run in list_runs(tmp_path)), 240)
        kernel.kill()
        kernel.wait()
        wait_until(lambda: started_at(pid) is None, 90)
    finally:
        kernel.kill()
        if started_at(pid):
            os.kill(pid, signal.SIGKILL)
    (run,) = list_runs(tmp_path)
    assert run_status(run).state == "interrupted"
    assert list(run.checkpoints.glob("step-*"))
    kernel.stdout.close()
