"""A run whose log is written step by step, and a sink that records its calls."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.events import EvalDone, Event, RunFinished, RunResumed, RunStarted, StepDone
from workbench.process import this_host
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import State
from workbench.runs.log import EventLog

CONFIG = 'recipe = "fd"\nseed = 3\n[loss.fd]\nweight = 2.5\n[optimizer]\nbetas = [0.9, 0.98]\n[machine]\npid = 7\n'


class FakeSink:
    """What it was given; ``fails_at`` raises there."""

    next = "see it nowhere"

    def __init__(self, fails_at: str = "") -> None:
        self.moments: list[tuple[int, dict[str, float]]] = []
        self.states: list[State] = []
        self.num_flushes = 0
        self.fails_at = fails_at

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        assert time_s > 0
        self.moments.append((step, dict(values)))
        self._fail("write")

    def flush(self) -> None:
        self.num_flushes += 1
        self._fail("flush")

    def close(self, state: State) -> None:
        self.states.append(state)
        self._fail("close")

    def _fail(self, place: str) -> None:
        if place == self.fails_at:
            raise RuntimeError(f"cannot {place}")

    @property
    def losses(self) -> dict[int, float]:
        return {step: values["train/loss"] for step, values in self.moments if "train/loss" in values}


def _started(run: str = "one", **changes: Any) -> RunStarted:
    counts = {"num_steps": 40, "batch_size": 8, "num_pairs": 64, "num_parameters": 10, "num_embedding_parameters": 5}
    return RunStarted(**{"run": run, "step": 0, "host": this_host(), "pid": os.getpid()} | counts | changes)


def _step_done(step: int, loss: float, run: str = "one") -> StepDone:
    return StepDone(
        run=run,
        step=step,
        loss=loss,
        terms={"clip": 2.0, "fd": 0.25},
        weighted={"clip": 2.0, "fd": 0.5},
        scales={"student": 14.0},
        learning_rate=1e-3,
        grad_norm=0.5,
        step_time_s=0.1,
        pairs_per_s=80.0,
        elapsed_s=1.0,
        peak_mb=300.0,
    )


def _eval_done(step: int, value: float, split: str = "validation", run: str = "one") -> EvalDone:
    return EvalDone(run=run, step=step, split=split, num_pairs=9, metrics={"image_to_text_r1": value}, elapsed_s=1.0)


def _resumed(step: int, run: str = "one") -> RunResumed:
    return RunResumed(run=run, step=step, host=this_host(), pid=os.getpid())


def _finished(step: int, state: str = "finished", run: str = "one") -> RunFinished:
    return RunFinished(run=run, step=step, state=state, elapsed_s=2.0)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The events of a run: ``make.step_done(step, loss)`` and so on."""
    return SimpleNamespace(
        started=_started, step_done=_step_done, eval_done=_eval_done, resumed=_resumed, finished=_finished
    )


@pytest.fixture(scope="session")
def fake_sink() -> type[FakeSink]:
    return FakeSink


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path / "runs", "one", CONFIG)


@pytest.fixture
def say(run: RunDirectory) -> Callable[..., None]:
    """``say(*events)``: adds them to the run's log."""

    def add(*events: Event) -> None:
        with EventLog(run.events_file) as log:
            for event in events:
                log.append(event)

    return add
