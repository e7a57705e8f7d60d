"""Several processes on one study: started, listened to, and ended together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from workbench.cli.output import errors

if TYPE_CHECKING:
    from workbench.cli.interrupt import Interrupt

POLL_S = 0.2


def work_together(command: Sequence[str], num_workers: int, num_threads: int, interrupt: "Interrupt") -> None:
    """Run ``workbench`` with this command in several processes until all have ended; what they say is passed on.

    A signal to this process reaches every worker once. One that dies is reported: the others take up its runs.
    """
    argv = [sys.executable, "-m", "workbench", *command]
    environment = {"OMP_NUM_THREADS": str(num_threads)} | os.environ
    workers = [
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # else Ctrl-C would reach it from the terminal and from us, and twice is "at once"
        )
        for _ in range(num_workers)
    ]
    readers = [
        threading.Thread(target=_pass_on, args=(number, worker.stderr), daemon=True)
        for number, worker in enumerate(workers, start=1)
    ]
    for reader in readers:
        reader.start()
    try:
        _wait(workers, interrupt)
    finally:
        _signal(workers, signal.SIGTERM)  # those that are left, where this process was told to end at once
    for reader in readers:
        reader.join()


def _wait(workers: Sequence["subprocess.Popen[str]"], interrupt: "Interrupt") -> None:
    told = False
    alive = dict(enumerate(workers, start=1))
    while alive:
        if interrupt() and not told:
            told = True
            _signal(workers, signal.SIGTERM)
        for number, worker in list(alive.items()):
            code = worker.poll()
            if code is None:
                continue
            del alive[number]
            if code < 0:
                errors.print(f"worker {number} died of signal {-code}: its runs are left to the others")
        time.sleep(POLL_S)


def _signal(workers: Sequence["subprocess.Popen[str]"], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _pass_on(number: int, lines: IO[str] | None) -> None:
    assert lines is not None
    for line in lines:
        errors.print(f"{number}: {line.rstrip()}", markup=False, soft_wrap=True)
