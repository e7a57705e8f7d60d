"""Fixtures: recorded runs, and the dashboard driven by Textual's pilot."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from textual.pilot import Pilot

from workbench.config.cells import plain
from workbench.events import EvalDone, Event, RunFinished, RunStarted, StepDone
from workbench.process import boot_id, started_at, this_host
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import Owner
from workbench.runs.log import EventLog
from workbench.tui.app import Workbench
from workbench.tui.preferences import Preferences, write_preferences

RECIPE = {"recipe": "clip-kd", "seed": 0}
Steps = Callable[[Pilot[None]], Awaitable[Any]]


def done(run: str, step: int, loss: float | None = None, **changes: Any) -> StepDone:
    """A logged step of a run of two losses that fall."""
    clip, icl = 3.0 / step, 1.0 / step
    fields: dict[str, Any] = {
        "loss": clip + icl if loss is None else loss,
        "terms": {"clip": clip, "icl": icl / 2},
        "weighted": {"clip": clip, "icl": icl},
        "scales": {"student": 14.0},
        "learning_rate": 1e-3,
        "grad_norm": 0.5,
        "step_time_s": 0.1,
        "pairs_per_s": 1280.0,
        "elapsed_s": step * 0.1,
        "peak_mb": 300.0,
    }
    return StepDone(run=run, step=step, **fields | changes)


def evaluated(run: str, step: int, value: float, split: str = "validation") -> EvalDone:
    """An evaluation of two metrics."""
    metrics = {"image_to_text_r1": value, "zero_shot_top1": value / 2}
    return EvalDone(run=run, step=step, split=split, num_pairs=100, metrics=metrics, elapsed_s=1.0)


@dataclass
class Recorder:
    """Writes runs into a folder as a training loop does."""

    folder: Path
    logs: dict[str, EventLog] = field(default_factory=dict)

    def __call__(
        self,
        name: str,
        *,
        last: int = 100,
        state: str | None = "finished",
        settings: dict[str, Any] | None = None,
        extra: list[Event] | None = None,
    ) -> RunDirectory:
        """A run of ``last`` of 100 steps; with ``state`` None it is live, owned by this process."""
        run = create_run(self.folder, name, tomli_w.dumps(RECIPE | (settings or {})))
        log = self.logs[name] = EventLog(run.events_file)
        log.append(
            RunStarted(
                run=name,
                step=0,
                num_steps=100,
                batch_size=20,
                num_pairs=60,
                num_parameters=10,
                num_embedding_parameters=5,
                host=this_host(),
                pid=os.getpid(),
            )
        )
        for step in range(10, last + 1, 10):
            log.append(done(name, step))
            if step % 50 == 0:
                log.append(evaluated(name, step, step / 200 + len(name) / 1000))
        for event in extra or []:
            log.append(event)
        if state is None:
            run.owner_file.write_text(own().model_dump_json())
        elif state:
            log.append(RunFinished(run=name, step=last, state=state, elapsed_s=10.0))  # type: ignore[arg-type]
        return run

    def study(self, name: str, cells: dict[str, dict[str, Any]], seeds: int = 2, **last: Any) -> None:
        """A study's runs, ``cell: values``; the metric of a cell grows with its place and its seed."""
        for place, (cell, values) in enumerate(cells.items()):
            for seed in range(seeds):
                origin = {"study": name, "cell": cell, "values": values, "seed": seed, "trial": place}
                run = f"{plain(name)}-{plain(cell)}-s{seed}"
                value = 0.1 + 0.1 * place + 0.01 * seed
                results = [evaluated(run, 100, value), evaluated(run, 100, value + 0.001, "test")]
                self(run, settings={"seed": seed, "sweep": origin}, extra=results, **last)

    def log(self, name: str, *events: Event) -> None:
        """Append events to a run's log."""
        for event in events:
            self.logs[name].append(event)


def own() -> Owner:
    """This process, as the owner of a run."""
    started = started_at(os.getpid())
    assert started is not None
    return Owner(host=this_host(), pid=os.getpid(), started=started, boot=boot_id(), since_s=0.0)


@pytest.fixture
def record(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preferences and exports go to the test's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_preferences(Preferences(opens="runs"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drive(record: Recorder) -> Callable[..., Workbench]:
    """``drive(steps, run=..., size=...)`` runs the dashboard and awaits ``steps(pilot)``; any error in it fails."""

    def show(
        steps: Steps, run: RunDirectory | None = None, size: tuple[int, int] = (80, 24), study: str = ""
    ) -> Workbench:
        app = Workbench(record.folder, run, study)
        app.animation_level = "none"

        async def within() -> None:
            async with app.run_test(size=size, notifications=True) as pilot:
                await pilot.pause()
                await steps(pilot)

        asyncio.run(within())
        return app

    return show


@pytest.fixture(scope="session")
def seen() -> Callable[[Any], str]:
    """``seen(pilot)``: the text of the screen, line by line."""

    def text(pilot: Pilot[None]) -> str:
        return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())

    return text


@pytest.fixture(scope="session")
def notices() -> Callable[[Any], str]:
    """``notices(pilot)``: all notifications."""
    return lambda pilot: "\n".join(str(notice.message) for notice in pilot.app._notifications)


@pytest.fixture(scope="session")
def soon() -> Callable[..., Awaitable[None]]:
    """``await soon(condition)``: waits until it holds."""

    async def wait(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        until = asyncio.get_running_loop().time() + timeout_s
        while not condition():
            assert asyncio.get_running_loop().time() < until, "timed out"
            await asyncio.sleep(0.05)

    return wait


@pytest.fixture(scope="session", name="done")
def _done() -> Callable[..., StepDone]:
    return done


@pytest.fixture(scope="session", name="evaluated")
def _evaluated() -> Callable[..., EvalDone]:
    return evaluated
