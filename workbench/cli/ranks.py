"""Several processes of one run on this machine, one a GPU: what ``--gpus N`` starts."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from workbench.errors import print_error
from workbench.process import last_line, launched_rank, why_failed

Gpus = Annotated[
    int,
    typer.Option("--gpus", min=1, metavar="N", help="Train on N GPUs of this machine, with a process for each."),
]
POLL_S = 0.1
GRACE_S = 15.0  # in which rank 0 may still report that another has ended, before it is stopped


def train_on(gpus: int) -> bool:
    """Start this command again as ``gpus`` ranks, if more than one is asked for and this is none of them.

    Returns:
        False if this process shall train itself.

    Raises:
        typer.Exit: with the exit status of the ranks, once all have ended.
    """
    if gpus == 1 or launched_rank() is not None:
        return False
    raise typer.Exit(run_ranks([sys.executable, "-m", "workbench", *sys.argv[1:]], gpus, WORKBENCH_GPUS=str(gpus)))


def run_ranks(command: list[str], size: int, **environment: str) -> int:
    """Run a command as ``size`` ranks, and return its exit status; when one fails, the others are stopped.

    Rank 0 writes to this terminal. Of the others only the last line is printed, if rank 0 has not failed by itself.
    """
    shared = (
        os.environ
        | environment
        | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "WORLD_SIZE": str(size),
        }
    )
    # As torchrun: N processes with a thread for every core each would slow each other down.
    shared.setdefault("OMP_NUM_THREADS", "1")
    with ExitStack() as files, tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{rank}" for rank in range(size)]
        ranks = [
            subprocess.Popen(
                command,
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else files.enter_context(log.open("wb")),
            )
            for rank, log in enumerate(logs)
        ]
        with _forwarding(ranks):
            first_failed = _wait(ranks)
        if first_failed and ranks[0].returncode < 0:
            line = last_line(logs[first_failed].read_text(errors="replace"))
            print_error(f"workbench: rank {first_failed}: {why_failed(line)}")
        codes = [ranks[first_failed].returncode, *(rank.returncode for rank in ranks)]
        return next((code if code > 0 else 1 for code in codes if code), 0)


def _wait(ranks: list["subprocess.Popen[bytes]"]) -> int:
    """Wait for all; returns the number of the first one that failed, or 0."""
    first_failed, stops_at = 0, float("inf")
    while any(rank.poll() is None for rank in ranks):
        failed = [number for number, rank in enumerate(ranks) if rank.returncode]
        if failed and stops_at == float("inf"):
            first_failed = failed[0]
            # A bad command line or machine is reported at once; a rank that died in training, by rank 0.
            stops_at = time.monotonic() + (0 if ranks[first_failed].returncode == 2 else GRACE_S)
        if time.monotonic() >= stops_at:
            for rank in ranks:
                if rank.poll() is None:
                    rank.kill() if time.monotonic() >= stops_at + GRACE_S else rank.terminate()
        time.sleep(POLL_S)
    return first_failed or next((number for number, rank in enumerate(ranks) if rank.returncode), 0)


@contextmanager
def _forwarding(ranks: list["subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Pass signals on to the ranks, which finish their step and save; Ctrl-C reaches them from the terminal itself."""

    def forward(number: int, _: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    handlers: dict[signal.Signals, Any] = dict.fromkeys((signal.SIGTERM, signal.SIGUSR1), forward)
    handlers[signal.SIGINT] = signal.SIG_IGN
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
