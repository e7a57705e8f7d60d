"""A run in a process of its own that dies without a word."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def train_and_kill(tmp_path: Path) -> Callable[..., None]:
    """``train_and_kill(recipe, first, second)``: train "run", kill it so many events in; resume and kill it again."""

    def kill_after(count: int, *command: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench", *command, "--runs", str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        log = tmp_path / "run" / "events.jsonl"

        def num_lines() -> int:
            return len(log.read_bytes().splitlines()) if log.exists() else 0

        wanted = num_lines() + count
        while process.poll() is None and num_lines() < wanted:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def train(recipe: Path, first: int, second: int) -> None:
        kill_after(first, "train", "--recipe", str(recipe), "--name", "run")
        kill_after(second, "runs", "resume", "run")

    return train
