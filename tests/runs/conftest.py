"""What the tests of the run directory share: a run and its events."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.events import Event, RunFinished, RunStarted, StepDone
from workbench.process import this_host
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog

RUN = "clip-kd-s0"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path / "runs", RUN, 'recipe = "clip-kd"\nseed = 0\n')


@pytest.fixture
def append(run: RunDirectory) -> Callable[..., None]:
    """``append(*events)`` appends them to the run's log."""

    def append(*events: Event) -> None:
        with EventLog(run.events_file) as log:
            for event in events:
                log.append(event)

    return append


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
