"""An interrupted run ends as an uninterrupted one: losses, weights, optimizer, bit for bit."""

from pathlib import Path

import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import EvalDone, StepDone
from workbench.runs.directory import RunDirectory

EVERY_STEP = {"every_steps": 1}
SETTINGS = {
    "plain": {"log": EVERY_STEP},
    "after an evaluation": {"log": EVERY_STEP, "evaluate": {"every_steps": 2}},
    "masked": {"log": EVERY_STEP, "loss": {"mfd": {"weight": 5.0, "mask_ratio": 0.5}}},
    "two workers": {"log": EVERY_STEP, "data": {"num_workers": 2}},
}
CASES = [  # the steps of each leg before it is interrupted; an epoch has 3
    ("plain", (4,)),
    ("plain", (6,)),
    ("plain", (11,)),
    ("plain", (2, 5)),
    ("after an evaluation", (4,)),
    ("after an evaluation", (3, 3)),
    ("masked", (4,)),
    ("two workers", (4,)),
]

Trace = tuple[dict[int, float], dict[str, float], dict[str, torch.Tensor]]


def go_on(started, steps: int | None) -> tuple[dict[int, float], dict[str, float]]:
    """Losses by step and the last evaluation, of a launch that is interrupted after some steps, or not."""
    left = iter(range(1_000))
    losses, metrics = {}, {}
    for event in started.events(lambda: steps is not None and next(left) + 1 >= steps):
        torch.rand(7)  # others may use the global generator
        if isinstance(event, StepDone):
            losses[event.step] = event.loss
        if isinstance(event, EvalDone):
            metrics = dict(event.metrics)
    return losses, metrics


def state_of(cohort) -> dict[str, torch.Tensor]:
    state = cohort.members[0].state
    return {**state.state_dict(), **{f"optimizer/{k}": v for k, v in state.optimizer_tensors().items()}}


@pytest.fixture(scope="module")
def undisturbed():
    """What a config gives when nothing happens, by its name."""
    known: dict[str, Trace] = {}

    def run(name: str, config) -> Trace:
        if name not in known:
            cohort = build_cohort({"run": config})
            events = list(train(cohort))
            losses = {event.step: event.loss for event in events if isinstance(event, StepDone)}
            metrics = [dict(event.metrics) for event in events if isinstance(event, EvalDone)][-1]
            known[name] = losses, metrics, state_of(cohort)
        return known[name]

    return run


@pytest.mark.parametrize(("name", "legs"), CASES)
def test_it_ends_bit_identical(tiny, tmp_path: Path, undisturbed, name: str, legs: tuple[int, ...]) -> None:
    config = tiny(**SETTINGS[name])
    started, losses = launch({"run": config}, tmp_path), {}
    for steps in (*legs, None):
        more, metrics = go_on(started, steps)
        losses |= more
        cohort = started.cohort
        if steps is not None:
            started = relaunch(RunDirectory(tmp_path / "run"))
    expected_losses, expected_metrics, expected_state = undisturbed(name, config)
    assert (losses, metrics) == (expected_losses, expected_metrics)
    state = state_of(cohort)
    assert state.keys() == expected_state.keys()
    assert all(torch.equal(state[key], expected_state[key]) for key in state)


def test_a_run_that_died_before_its_first_step_starts_over(tiny, tmp_path: Path, undisturbed) -> None:
    started = launch({"run": tiny(**SETTINGS["plain"])}, tmp_path)
    events = started.events()
    next(events)
    events.close()
    found = go_on(relaunch(RunDirectory(tmp_path / "run")), None)
    assert found == undisturbed("plain", tiny(**SETTINGS["plain"]))[:2]


def test_the_number_of_workers_may_change_on_the_way(tiny, tmp_path: Path, undisturbed) -> None:
    config = tiny(**SETTINGS["plain"])
    launched = launch({"run": config}, tmp_path)
    before, _ = go_on(launched, 5)
    run = launched.directories["run"]
    text = run.config_file.read_text()
    assert "num_workers = 0" in text
    run.config_file.write_text(text.replace("num_workers = 0", "num_workers = 2"))
    after, metrics = go_on(relaunch(run), None)
    assert (before | after, metrics) == undisturbed("plain", config)[:2]
