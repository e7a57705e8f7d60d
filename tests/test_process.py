"""Process identity and liveness, and detached processes."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench import process
from workbench.process import (
    BackgroundProcess,
    boot_id,
    last_line,
    start_background,
    start_detached,
    started_at,
    visible_gpus,
    why_failed,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def wait_for(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_a_running_process_keeps_its_start_time_and_an_ended_one_has_none():
    child = subprocess.Popen(["sleep", "60"])
    start = started_at(child.pid)
    assert start == started_at(child.pid)
    assert start != started_at(os.getpid())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(child.pid) is None  # a zombie
    child.wait()
    assert started_at(child.pid) is None


@needs_proc
def test_a_programs_name_cannot_forge_its_start(tmp_path):
    nasty = tmp_path / "a) Z 1 (b"
    nasty.symlink_to("/bin/sleep")
    child = subprocess.Popen([nasty, "60"])
    try:
        wait_for(lambda: b"a) Z" in Path(f"/proc/{child.pid}/stat").read_bytes())
        assert started_at(child.pid).startswith(boot_id())
    finally:
        child.kill()
        child.wait()


def test_without_proc_ps_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "PROC", tmp_path)
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert started_at(child.pid) == started_at(child.pid)
        assert started_at(child.pid)[-4:].isdecimal()  # it ends in the year
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(child.pid) is None
    child.wait()
    assert started_at(child.pid) is None


def test_a_detached_process_has_its_own_session_no_input_and_a_log(tmp_path):
    log = tmp_path / "output.log"
    log.write_text("before\n")
    code = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '', flush=True); sys.exit('bad')"
    pid = start_detached([sys.executable, "-c", code], log)
    wait_for(lambda: started_at(pid) is None)
    assert log.read_text() == "before\nTrue True\nbad\n"
    wait_for(lambda: not Path(f"/proc/{pid}").exists())  # and leaves no zombie behind


def test_it_survives_the_closing_of_the_terminal_it_was_started_from(tmp_path):
    log = tmp_path / "output.log"
    shell, terminal = pty.fork()
    if shell == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started with nohup
        start_detached(["sh", "-c", "echo begun; sleep 0.5; echo survived"], log)
        time.sleep(60)
        os._exit(0)
    wait_for(lambda: log.exists() and "begun" in log.read_text())
    os.close(terminal)
    _, status = os.waitpid(shell, 0)
    assert os.WTERMSIG(status) == signal.SIGHUP
    wait_for(lambda: "survived" in log.read_text())


def test_what_cannot_be_started_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"cannot start no-such-program .*: No such file"):
        start_detached(["no-such-program"], tmp_path / "log")
    with pytest.raises(ValueError, match=r"cannot start sh .*missing.*: No such file"):
        start_detached(["sh"], tmp_path / "missing" / "log")


def test_the_run_directory_is_quick_to_import_and_has_no_torch():
    code = """
import pkgutil, sys, importlib
import workbench.runs
for module in pkgutil.iter_modules(workbench.runs.__path__):
    if module.name.endswith("snapshots"):  # read only where arrays are asked for
        continue
    importlib.import_module(f"workbench.runs.{module.name}")
heavy = {"torch", "open_clip", "numpy", "pandas", "scipy", "matplotlib", "seaborn"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(process.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def ended(apart: BackgroundProcess) -> BackgroundProcess:
    until = time.monotonic() + 60
    while apart.is_alive:
        assert time.monotonic() < until
        time.sleep(0.02)
    return apart


def test_a_failed_command_reports_its_reason_after_other_output(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("workbench: what was wrong once\n")
    apart = start_background(["runs", "show", "nothing", "--runs", str(tmp_path / "runs")], output)
    assert apart.started is not None
    assert ended(apart).last_line.startswith("workbench: no run 'nothing'")
    assert output.read_text().startswith("workbench: what was wrong once\n")


def test_of_a_pid_that_belongs_to_another_process_now_it_has_ended(tmp_path: Path) -> None:
    apart = start_background(["--version"], tmp_path / "output.log")
    assert not BackgroundProcess(apart.pid, "another start", apart.output, 0).is_alive
    assert last_line(ended(apart).output.read_text()) == apart.last_line
    apart.output.unlink()
    assert apart.last_line == ""


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("step 1\nworkbench: no such data\n\n", "no such data"),
        ("step 1\rworkbench: no such data", "no such data"),
        ("Killed", "Killed"),
        (" \n", "it printed no message"),
    ],
)
def test_why_a_command_failed_is_its_last_line(message: str, why: str) -> None:
    assert why_failed(last_line(message)) == why


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the container's own limits; none are set."""
    monkeypatch.setattr(process, "CGROUP", tmp_path)
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 3), ("9900000 100000", 8)]
)
def test_a_containers_quota_limits_the_cores(container: Path, quota: str, cores: int) -> None:
    (container / "cpu.max").write_text(f"{quota}\n")
    assert process.usable_cores() == cores


def test_without_a_container_the_cores_are_those_of_the_process(container: Path) -> None:
    assert not list(container.iterdir())
    assert process.usable_cores() == 8


@pytest.mark.parametrize("name", process.MEMORY_LIMITS)
def test_a_containers_limit_is_all_the_memory_there_is(container: Path, name: str) -> None:
    file = container / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{64 * 2**20}\n")
    assert process.memory_mb() == (64, 64)
    file.write_text("max\n")
    assert process.memory_mb()[0] > 64


def test_free_memory_is_the_kernels(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = container / "meminfo"
    meminfo.write_text("MemTotal:       1000 kB\nMemAvailable:     51200 kB\n")
    monkeypatch.setattr(process, "MEMINFO", meminfo)
    total_mb, free_mb = process.memory_mb()
    assert free_mb == 50
    meminfo.unlink()  # macOS
    assert process.memory_mb() == (total_mb, total_mb)


GPU = "GPU-6f0d0c4e-0000-4a9a-9b7e-7f2b8b1f0c0"
LISTED = f"""GPU 0: NVIDIA H200 (UUID: {GPU}0)
GPU 1: NVIDIA H200 (UUID: {GPU}1)
  MIG 3g.71gb     Device  0: (UUID: MIG-aaaaaaaa-0000)
  MIG 1g.18gb     Device  1: (UUID: MIG-{GPU}1/2/0)
GPU 2: NVIDIA H200 (UUID: {GPU}2)
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """``nvidia_smi(text, code)``: such a program on the PATH, and no CUDA_VISIBLE_DEVICES."""

    def install(text, code=0):
        (tmp_path / "listed").write_text(text)
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && /bin/cat {tmp_path}/listed\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_gpus_are_listed_and_the_parts_of_a_divided_one(nvidia_smi):
    nvidia_smi(LISTED)
    assert visible_gpus() == [f"{GPU}0", "MIG-aaaaaaaa-0000", f"MIG-{GPU}1/2/0", f"{GPU}2"]


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [("2,3", ["2", "3"]), (f"{GPU}1, MIG-b", [f"{GPU}1", "MIG-b"]), ("", []), ("-1", []), ("1,-1,2", ["1"])],
)
def test_gpus_that_were_chosen_have_priority(nvidia_smi, monkeypatch, chosen, gpus):
    nvidia_smi(LISTED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(("text", "code"), [("", 0), ("No devices found.\n", 6), ("NVIDIA-SMI has failed\n", 9)])
def test_without_a_gpu_none_is_listed(nvidia_smi, monkeypatch, text, code):
    nvidia_smi(text, code)
    assert visible_gpus() == []
    monkeypatch.setenv("PATH", "")
    assert visible_gpus() == []
