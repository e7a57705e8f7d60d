"""The dashboard in a pseudo-terminal: it is restored however the dashboard ends, and idle if nothing happens."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl

import pytest

pytestmark = pytest.mark.slow
ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"
MOUSE_OFF, CURSOR_ON = b"\x1b[?1000l", b"\x1b[?25h"


class Terminal:
    """A process in a pseudo-terminal, and its output."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.written = b""
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=os.environ | environment, start_new_session=True
        )

    def read_until(self, holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
        until = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < until, self.written[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.written += os.read(self.master, 65536)

    def read_for(self, seconds: float) -> int:
        """Read for so long; returns the number of bytes."""
        before, until = len(self.written), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                self.written += os.read(self.master, 65536)
        return len(self.written) - before

    def end(self) -> int:
        self.read_until(lambda: self.process.poll() is not None)
        while select.select([self.master], [], [], 0.3)[0]:
            self.written += os.read(self.master, 65536)
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal is back on its main screen: cursor shown, mouse off, input echoed."""
        last = {code: self.written.rfind(code) for code in (ENTERED, LEFT, MOUSE_OFF, CURSOR_ON)}
        echoes = bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)
        return last[LEFT] > last[ENTERED] >= 0 and last[CURSOR_ON] > 0 and last[MOUSE_OFF] > 0 and echoes


@pytest.fixture
def open_terminal(record, tmp_path):
    """``open_terminal(script)``: runs the dashboard, or a script that ends in it."""
    record("one")
    opened: list[Terminal] = []

    def start(script: str = "") -> Terminal:
        own = ["-c", script] if script else ["-m", "workbench", "tui"]
        argv = [sys.executable, *own, "--runs", str(record.folder)]
        terminal = Terminal(argv, {"XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "xterm-256color"})
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_restores_the_terminal(open_terminal, number) -> None:
    terminal = open_terminal()
    terminal.read_until(lambda: b"finished" in terminal.written)
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert terminal.is_restored()


def test_q_quits_with_exit_code_0(open_terminal) -> None:
    terminal = open_terminal()
    terminal.read_until(lambda: b"finished" in terminal.written)
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    assert terminal.is_restored()


CRASH = """
import sys
from workbench.tui.home.screen import HomeScreen
def crash(self): raise RuntimeError("boom")
HomeScreen.action_sort = crash
from workbench.cli.app import main
sys.argv = ["workbench", "tui", *sys.argv[1:]]
main()
"""


BYTES_PER_S = 1024  # over ssh, a screen on which nothing changes must be as good as silent
WATCHED_S = 4.0


def test_a_finished_run_sends_next_to_nothing(open_terminal) -> None:
    terminal = open_terminal()
    terminal.read_until(lambda: b"finished" in terminal.written)
    os.write(terminal.master, b"\r")  # opens the run; the table of runs stays below
    terminal.read_until(lambda: b"metrics" in terminal.written)
    terminal.read_for(3.0)  # the first drawing comes in pieces
    assert terminal.read_for(WATCHED_S) < WATCHED_S * BYTES_PER_S
    os.write(terminal.master, b"2")  # it is alive
    terminal.read_until(lambda: b"R@1" in terminal.written)


def test_a_workspace_of_ended_runs_sends_next_to_nothing(open_terminal, record) -> None:
    record("two")
    terminal = open_terminal()
    terminal.read_until(lambda: b"finished" in terminal.written)
    os.write(terminal.master, b"w")
    terminal.read_until(lambda: b"2 of 2 runs" in terminal.written)
    terminal.read_for(4.0)  # the first drawing comes in pieces
    assert terminal.read_for(WATCHED_S) < WATCHED_S * BYTES_PER_S
    os.write(terminal.master, b" ")  # it is alive
    terminal.read_until(lambda: b"1 of 2 runs" in terminal.written or b"1 of" in terminal.written)


def test_a_crash_is_reported_on_a_restored_terminal(open_terminal) -> None:
    terminal = open_terminal(CRASH)
    terminal.read_until(lambda: b"finished" in terminal.written)
    os.write(terminal.master, b"s")
    assert terminal.end() == 1
    assert terminal.is_restored()
    assert b"boom" in terminal.written


def test_without_a_terminal_one_line_names_the_remedy(record) -> None:
    record("one")
    command = [sys.executable, "-m", "workbench", "tui", "--runs", str(record.folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "workbench tui --once" in ended.stderr
    assert ended.stdout == ""
