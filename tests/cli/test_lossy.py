"""A full disk under stderr or stdout."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli.lossy import lossy_stderr

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


class Stream:
    """A stream on a disk that is full while ``is_full``."""

    def __init__(self, code: int = errno.ENOSPC) -> None:
        self.code, self.is_full, self.text = code, True, ""

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(self.code, os.strerror(self.code))
        self.text += text
        return len(text)

    def flush(self) -> None:
        self.write("")


def test_messages_are_dropped_while_the_disk_is_full_and_the_gap_is_reported(monkeypatch) -> None:
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    with lossy_stderr():
        print("lost", file=sys.stderr, flush=True)
        stream.is_full = False
        print("kept", file=sys.stderr, flush=True)
        print("too", file=sys.stderr)
    assert sys.stderr is stream
    gap, *kept = stream.text.splitlines()
    assert "missing" in gap
    assert kept == ["kept", "too"]


def test_other_errors_are_raised(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(errno.EBADF))
    with lossy_stderr(), pytest.raises(OSError, match="Bad file descriptor"):
        print("x", file=sys.stderr)


@needs_full
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_results_that_cannot_be_printed_are_one_line(options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "workbench", "losses", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("workbench: disk full; make room there")
    assert done.stderr.count("\n") == 1


@needs_full
def test_bad_input_keeps_its_exit_status_where_nothing_can_be_said() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "workbench", "train", "--recipe", "nothing"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2
