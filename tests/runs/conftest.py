"""What the tests of the run directory share: a run, its events, and real processes to kill."""

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from workbench.events import RunFinished, RunStarted, StepDone
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.process import this_host

FORK = multiprocessing.get_context("fork")
FAILABLE = ("write", "fsync", "replace", "rename", "open", "mkdir")
RUN = "clip-kd-s0"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path / "runs", RUN, 'recipe = "clip-kd"\nseed = 0\n')


@pytest.fixture(scope="session")
def started() -> Callable[..., RunStarted]:
    fields = {
        "num_steps": 600,
        "batch_size": 128,
        "num_pairs": 4000,
        "num_parameters": 10,
        "num_embedding_parameters": 5,
        "host": this_host(),
        "pid": os.getpid(),
    }
    return lambda **changes: RunStarted(**{"run": RUN, "step": 0} | fields | changes)


@pytest.fixture(scope="session")
def step_done() -> Callable[..., StepDone]:
    fields = {
        "loss": 2.5,
        "terms": {"clip": 2.0, "icl": 0.5},
        "weighted": {"clip": 2.0, "icl": 0.5},
        "scales": {"clip": 14.3},
        "learning_rate": 1e-3,
        "grad_norm": 0.7,
        "step_time_s": 0.1,
        "pairs_per_s": 1280.0,
        "elapsed_s": 12.5,
        "peak_mb": 300.0,
    }
    return lambda step, **changes: StepDone(**{"run": RUN, "step": step} | fields | changes)


@pytest.fixture(scope="session")
def finished() -> Callable[..., RunFinished]:
    fields = {"run": RUN, "state": "finished", "elapsed_s": 60.0}
    return lambda step, **changes: RunFinished(**fields | {"step": step} | changes)


@contextmanager
def _forked(work: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def forked() -> Callable[..., AbstractContextManager[BaseProcess]]:
    """``with forked(work, *arguments) as process``: killed with SIGKILL on the way out if it still runs."""
    return _forked


@pytest.fixture(scope="session")
def killed() -> Callable[[Callable[[Any], None], int], Iterator[int]]:
    """``killed(work, times)``: kills ``work(counter)`` again and again, yielding how far each counter came.

    The kills come 0 to 50 ms (seeded) after the first count, so that they fall amid real work.
    """

    def kill_again_and_again(work: Callable[[Any], None], times: int) -> Iterator[int]:
        delays = random.Random(0)
        for _ in range(times):
            counter = FORK.Value("q", 0, lock=False)
            with _forked(work, counter) as process:
                while counter.value == 0 and process.is_alive():
                    process.join(0.001)
                process.join(delays.uniform(0, 0.05))
            yield int(counter.value)

    return kill_again_and_again


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[list[str]]]:
    """``with failing(nth, code) as called``: the n-th call (from 1) of any of FAILABLE raises that OSError."""

    @contextmanager
    def fail(nth: int, code: int) -> Iterator[list[str]]:
        called: list[str] = []

        def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                if name == "open" and arguments[1] & os.O_NONBLOCK:  # how files are read: see workbench/reading.py
                    return real(*arguments, **options)
                called.append(name)
                if len(called) == nth:
                    raise OSError(code, os.strerror(code))
                return real(*arguments, **options)

            return wrapped

        with monkeypatch.context() as patched:
            for name in FAILABLE:
                patched.setattr(os, name, wrap(name, getattr(os, name)))
            yield called

    return fail
