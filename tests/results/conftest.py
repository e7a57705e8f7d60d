"""Runs of a study as a sweep leaves them: recorded by the events themselves, with numbers that the tests choose."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import tomli_w

from workbench.config.cells import cells_of
from workbench.config.study import Origin, Study
from workbench.events import EvalDone, Event, RunFinished, RunStarted, StepDone
from workbench.process import this_host
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog

MACHINE = {"host": "here", "pid": 1, "python": "3.11.2", "torch": "2.15.0", "device": "x86_64", "num_threads": 2}
STUDY = """
question = "Which weight?"
recipe = "fd"
steps = 80
seeds = 3
baseline = "0"
[grid]
loss.fd.weight = [0, 10, 100, 1000]
[[objectives]]
metric = "image_to_text_r1"
[paper]
source = "A paper, Table 1"
[paper.cells]
0 = { image_to_text_r1 = 31.0, text_to_image_r1 = 30.0 }
10 = { image_to_text_r1 = 33.0, text_to_image_r1 = 32.0 }
100 = { image_to_text_r1 = 35.0, text_to_image_r1 = 33.5 }
1000 = { image_to_text_r1 = 37.0, text_to_image_r1 = 36.0 }
"""

Record = Callable[..., RunDirectory]


def evaluation(run: str, step: int, split: str, metrics: Mapping[str, float]) -> EvalDone:
    errors = {name: 0.004 for name in metrics if name.endswith("_r1")}
    return EvalDone(run=run, step=step, split=split, num_pairs=1000, metrics=dict(metrics), errors=errors, elapsed_s=1)


def step_done(run: str, step: int, loss: float) -> StepDone:
    return StepDone(
        run=run,
        step=step,
        loss=4.0,
        terms={"clip": 3.0, "fd": loss},
        weighted={"clip": 3.0, "fd": loss},
        scales={},
        learning_rate=1e-3,
        grad_norm=1.0,
        step_time_s=0.1,
        pairs_per_s=1000.0,
        elapsed_s=0.1 * step,
        peak_mb=100.0,
    )


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """``record(study, cell, seed, metrics)``: one run, with that on its test pairs and a little less on validation."""

    def make(
        study: Study,
        cell: str,
        seed: int,
        metrics: Mapping[str, float],
        *,
        state: str = "finished",
        values: Mapping[str, object] | None = None,
        trial: int = 0,
        name: str = "",
        num_params: int = 200_000,
    ) -> RunDirectory:
        planned = {one.name: one for one in cells_of(study)}
        config = planned.get(cell, next(iter(planned.values()), None))
        origin = Origin(
            study=name or study.name,
            cell=cell,
            values=dict(values if values is not None else planned[cell].values),
            seed=seed,
            trial=trial if study.search or cell not in planned else list(planned).index(cell),
        )
        table = config.at(seed).model_dump(mode="json") if config else {}
        run = create_run(
            tmp_path / "runs",
            re.sub(r"[^A-Za-z0-9._-]", "-", f"{origin.study}-{cell}-s{seed}"),
            tomli_w.dumps(table | {"machine": MACHINE, "sweep": origin.model_dump(mode="json")}),
        )
        _write(run, metrics, state, num_params)
        return run

    return make


def _write(run: RunDirectory, metrics: Mapping[str, float], state: str, num_params: int) -> None:
    number = {"run": run.id, "step": 0}
    events: list[Event] = [
        RunStarted(**number, num_steps=80, batch_size=100, num_pairs=1000, num_parameters=num_params,
                   num_embedding_parameters=10_000, host=this_host(), pid=2**22 + 1),
        step_done(run.id, 1, 7.7),
    ]  # fmt: skip
    if state != "new":
        for step, share in ((25, 0.5), (50, 0.8)):
            events.append(evaluation(run.id, step, "validation", {k: share * v for k, v in metrics.items()}))
    if state == "finished":
        events += [
            step_done(run.id, 80, 0.5),
            evaluation(run.id, 80, "validation", {name: 0.98 * value for name, value in metrics.items()}),
            evaluation(run.id, 80, "test", metrics),
        ]
    if state in ("finished", "diverged", "failed", "stopped"):
        reason = "" if state == "finished" else "loss.fd is NaN"
        step = 80 if state == "finished" else 51
        events.append(RunFinished(run=run.id, step=step, state=state, reason=reason, elapsed_s=8.0))
    with EventLog(run.events_file) as log:
        for event in events:
            log.append(event)


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``study_file(text)``: a study's file in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = STUDY, name: str = "mine.toml") -> str:
        (tmp_path / name).write_text(text)
        return name

    return write
