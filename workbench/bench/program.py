"""open_clip's training program as a child process that is paused except in its turns."""

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NoReturn

from workbench.adapters.sink import PROJECT

MODULE = "open_clip_train.main"
NEEDED = ("open_clip_train", "pandas", "webdataset", "braceexpand")  # its imports in addition to open_clip
STEP = re.compile(r"Train Epoch: .* ([0-9.e+]+)/s, .*\bLoss: ([0-9.e+-]+|nan)")  # pairs per second and loss of a step


def check_program() -> None:
    """Check that the program can run.

    Raises:
        ValueError: a required package is missing, with the remedy.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise ValueError(
            f"open_clip's training program needs {', '.join(missing)}, which is not installed: "
            f"pip install '{PROJECT}[peer]'"
        )


class Program:
    """The running program; its steps are read from its log.

    Args:
        arguments: its command line; --log-every-n-steps is 1.
        folder: its working directory and logs.
        num_threads: OMP_NUM_THREADS.
    """

    def __init__(self, arguments: list[str], folder: Path, num_threads: int) -> None:
        quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, "--log-every-n-steps", "1", "--logs", str(folder / "logs"), *arguments],
            cwd=folder,
            env=os.environ | quiet | {"OMP_NUM_THREADS": str(num_threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # signals must reach its workers, too
        )
        self._last = deque[str](maxlen=3)
        self.losses: list[float] = []  # of all its steps so far

    def steps(self, num_steps: int) -> list[float]:
        """Resume it for so many steps; pairs per second of each. The first includes the time that it was paused.

        Raises:
            ValueError: it has ended, with its last output.
        """
        self._signal(signal.SIGCONT)
        found = list(islice(self._speeds(), num_steps))
        self._signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """Kill it and its workers."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _speeds(self) -> Iterator[float]:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if step := STEP.search(line):
                self.losses.append(float(step[2]))
                yield float(step[1])
            elif line.strip():
                self._last.append(line.strip())
        output = " / ".join(self._last) or "nothing"
        raise ValueError(f"open_clip's training program ended early; its last output: {output}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def running(arguments: list[str], folder: Path, num_threads: int) -> Iterator[Program]:
    """The program, killed on exit. SIGTERM is handled, since it would end this process without its child."""
    before = signal.signal(signal.SIGTERM, _leave)
    program = Program(arguments, folder, num_threads)
    try:
        yield program
    finally:
        program.close()
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
