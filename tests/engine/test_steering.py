"""Settings changed during training apply from the next step on, are logged, and apply again after a resume."""

import threading
import time
from pathlib import Path

import pytest

from workbench.engine import loop
from workbench.engine.build import build_cohort
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.steering import applied_overrides, change
from workbench.events import CheckpointSaved, Commanded, RunFinished, StepDone, Warned
from workbench.models.weights import weights_sha256
from workbench.runs.directory import find_run
from workbench.runs.liveness import run_status, send_command

EVERY_STEP = {"log": {"every_steps": 1, "checkpoint_every_steps": 0}}


def steer(started, at_step: int, *commands: tuple[str, dict]):
    """Train to the end; the commands are sent as soon as step ``at_step`` is logged."""
    run = next(iter(started.directories.values()))
    events = []
    for event in started.events():
        events.append(event)
        if isinstance(event, StepDone) and event.step == at_step:
            for kind, arguments in commands:
                send_command(run, kind, **arguments)
    return events


def weights(events, loss: str) -> dict[int, float]:
    steps = [event for event in events if isinstance(event, StepDone)]
    return {event.step: event.weighted[loss] / event.terms[loss] for event in steps if loss in event.terms}


def test_a_weight_and_the_rate_change_from_the_next_step_on(tiny, tmp_path: Path) -> None:
    config = tiny(optimizer={"warmup_fraction": 0.0}, **EVERY_STEP)
    changes = {"loss.fd.weight": 0.5, "optimizer.learning_rate": 2e-3}
    events = steer(launch({"run": config}, tmp_path), 4, ("set", changes))
    fd = weights(events, "fd")
    assert fd[5] == pytest.approx(fd[4] / 10)  # 5 by the recipe, carried to this width alike
    rates = {event.step: event.learning_rate for event in events if isinstance(event, StepDone)}
    plain = {
        event.step: event.learning_rate
        for event in launch({"b": config}, tmp_path).events()
        if isinstance(event, StepDone)
    }
    assert all(rates[step] == pytest.approx(plain[step] * (1 if step <= 4 else 2)) for step in rates)
    (command,) = [event for event in events if isinstance(event, Commanded)]
    assert (command.command, command.step, command.arguments) == ("set", 4, changes)
    assert applied_overrides(find_run(tmp_path, "run"), 12) == changes
    assert applied_overrides(find_run(tmp_path, "run"), 3) == {}


def test_a_weight_of_0_switches_a_loss_off_and_on_again(tiny, tmp_path: Path) -> None:
    started = launch({"run": tiny(**EVERY_STEP)}, tmp_path)
    run = started.directories["run"]
    events = []
    for event in started.events():
        events.append(event)
        if isinstance(event, StepDone) and event.step in (3, 6):
            send_command(run, "set", **{"loss.crd.weight": 0 if event.step == 3 else 2})
    assert sorted(weights(events, "crd")) == [1, 2, 3, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("stop_after", [5, 6, 9])
def test_a_resumed_run_keeps_changed_settings(tiny, tmp_path: Path, stop_after: int) -> None:
    changes = {"loss.icl.weight": 3.0}

    def steered(name: str, interrupted):
        started = launch({name: tiny(**EVERY_STEP)}, tmp_path)
        for event in started.events(interrupted):
            if isinstance(event, StepDone) and event.step == 5:
                send_command(started.directories[name], "set", **changes)
        return started

    uninterrupted = steered("uninterrupted", lambda: False)
    calls = iter(range(100))
    steered("part", lambda: next(calls) + 1 == stop_after)
    resumed = relaunch(find_run(tmp_path, "part"))
    for _ in resumed.events():
        pass
    one, other = (weights_sha256(started.cohort.members[0].state) for started in (uninterrupted, resumed))
    assert one == other


def test_a_fork_starts_with_its_parents_changed_settings(tiny, tmp_path: Path) -> None:
    config = tiny(log={"every_steps": 1, "checkpoint_every_steps": 4, "keep_checkpoints": 9})
    steer(launch({"run": config}, tmp_path), 6, ("set", {"loss.fd.weight": 1.5, "loss.icl.weight": 2}))
    run = find_run(tmp_path, "run")
    assert plan_fork(run, at=4).config.loss["fd"].weight == 5
    assert plan_fork(run, at=8).config.loss["fd"].weight == 1.5
    assert plan_fork(run, at=8, overrides=["loss.fd.weight=7"]).config.loss["fd"].weight == 7
    fork = plan_fork(run, at=8).launch("fork")
    events = list(fork.events())
    assert events[-1].state == "finished"
    assert fork.cohort.members[0].objective.weights["icl"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"loss.icll.weight": 2},
            "did you mean 'loss.icl.weight'",
        ),
        ({"train.num_steps": 9}, "unknown setting of a run under way 'train.num_steps'"),
        ({"loss.icl.weight": -1}, "loss.icl.weight: input should be greater than or equal to 0"),
        ({"optimizer.learning_rate": 0}, "optimizer.learning_rate: input should be greater than 0"),
        ({"optimizer.learning_rate": "fast"}, "optimizer.learning_rate: input should be a valid number"),
        ({}, "no changes given: set optimizer.learning_rate or loss.clip.weight"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_the_run_continues(tiny, tmp_path: Path, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        change(build_cohort({"run": tiny()}).members[0], changes)
    events = steer(launch({"run": tiny(**EVERY_STEP)}, tmp_path), 3, ("set", changes))
    assert [
        words in event.message for event in events if isinstance(event, Warned) and "not changed" in event.message
    ] == [True]
    assert not any(isinstance(event, Commanded) for event in events)
    assert events[-1].state == "finished"


def test_a_paused_run_takes_commands_and_continues_unchanged(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "POLL_S", 0.01)
    started = launch({"run": tiny(**EVERY_STEP)}, tmp_path)
    run, seen = started.directories["run"], []

    def let_go() -> None:
        while run_status(run).state != "paused":
            time.sleep(0.01)
        seen.append(run_status(run).step)
        time.sleep(0.5)
        send_command(run, "checkpoint")
        send_command(run, "continue")

    other = threading.Thread(target=let_go)
    other.start()
    events = steer(started, 4, ("pause", {}))
    other.join()
    assert seen == [4]
    applied_overrides = [(event.command, event.step) for event in events if isinstance(event, Commanded)]
    assert applied_overrides == [("pause", 4), ("checkpoint", 4), ("continue", 4)]
    assert next(event.step for event in events if isinstance(event, CheckpointSaved)) == 4
    assert isinstance(events[-1], RunFinished)
    assert events[-1].elapsed_s < sum(event.step_time_s for event in events if isinstance(event, StepDone)) + 0.4
    alone = build_cohort({"run": tiny(**EVERY_STEP)})
    for _ in loop.train(alone):
        pass
    assert weights_sha256(started.cohort.members[0].state) == weights_sha256(alone.members[0].state)
    assert run_status(run).state == "finished"


@pytest.mark.parametrize("ending", ["stop", "signal"])
def test_a_paused_run_can_be_ended(tiny, tmp_path: Path, monkeypatch, ending: str) -> None:
    monkeypatch.setattr(loop, "POLL_S", 0.01)
    started = launch({"run": tiny(**EVERY_STEP)}, tmp_path)
    run = started.directories["run"]
    states, polls = [], iter(range(1000))
    for event in started.events(lambda: ending == "signal" and next(polls) > 20):
        states.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            send_command(run, "pause")
        if isinstance(event, Commanded) and event.command == "pause" and ending == "stop":
            send_command(run, "stop")
    assert (states[-1].state, states[-1].step) == ({"stop": "stopped", "signal": "interrupted"}[ending], 2)
