"""What goes wrong while a run trains, and what the run makes of it."""

import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workbench.cli.progress import interruptible
from workbench.engine import checkpoint as saving
from workbench.engine import launch as launching
from workbench.engine.build import build_cohort
from workbench.engine.checkpoint import save_checkpoint
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import CheckpointSaved, EvalDone, RunFinished, StepDone, Warned
from workbench.models.spec import load_model
from workbench.runs.directory import list_runs
from workbench.runs.liveness import run_status
from workbench.runs.log import read_events
from workbench.runs.summary import read_summary


class InfiniteGradient(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx, value):
        del ctx
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        del ctx
        return gradient * math.inf


@pytest.fixture
def infinite_at(monkeypatch: pytest.MonkeyPatch):
    """``infinite_at(5, 7)``: from then on the gradient of crd is infinite at those steps."""
    from workbench.losses.crd import CrdLoss

    def patch(*steps: int) -> None:
        honest, calls = CrdLoss.__call__, []

        def broken(self, comparison):
            calls.append(1)
            loss = honest(self, comparison)
            return InfiniteGradient.apply(loss) if len(calls) in steps else loss

        monkeypatch.setattr("workbench.engine.loop.new_remarks", lambda *_: [])  # which computes every loss once more
        monkeypatch.setattr(CrdLoss, "__call__", broken)

    return patch


def test_an_infinite_gradient_of_a_finite_loss_stops_the_run_before_its_step(tiny, infinite_at) -> None:
    infinite_at(5)
    cohort = build_cohort({"run": tiny(log={"every_steps": 1})})
    *_, end = train(cohort)
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("diverged", 5)
    assert end.reason.startswith("gradient norm was not finite at step 5 (first in the gradient of student.towers.")
    assert all(parameter.isfinite().all() for parameter in cohort.members[0].state.parameters())


def test_infinite_gradients_are_skipped_and_reported(tiny, infinite_at) -> None:
    infinite_at(5, 7)
    cohort = build_cohort({"run": tiny(train={"max_skipped_steps": 2}, log={"every_steps": 1})})
    events = list(train(cohort))
    assert (events[-1].state, events[-1].step) == ("finished", 12)
    warnings = [(event.step, event.message) for event in events if isinstance(event, Warned)]
    warned = [(step, message) for step, message in warnings if "skipped" in message]
    assert [step for step, _ in warned] == [5, 7]
    assert warned[1][1].startswith(
        "2 steps skipped (train.max_skipped_steps=2): gradient norm was not finite at step 5"
    )
    assert all(parameter.isfinite().all() for parameter in cohort.members[0].state.parameters())


def test_one_infinite_gradient_too_many_stops_the_run(tiny, infinite_at) -> None:
    infinite_at(3, 5, 7)
    *_, end = train(build_cohort({"run": tiny(train={"max_skipped_steps": 2}, log={"every_steps": 1})}))
    assert (end.state, end.step) == ("diverged", 7)


def test_what_a_diverged_run_leaves_on_disk_is_finite(tiny, tmp_path: Path) -> None:
    config = tiny(optimizer={"learning_rate": 1e20, "warmup_fraction": 0.0}, log={"checkpoint_every_steps": 1})
    started = launch({"run": config}, tmp_path)
    *_, end = started.events()
    assert isinstance(end, RunFinished)
    assert end.state == "diverged"
    run = started.directories["run"]
    assert run_status(run).state == "diverged"
    for checkpoint in run.checkpoints.iterdir():
        model = load_model(str(checkpoint))
        assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("num_steps", [1, 3])
def test_weights_that_overflow_in_a_finite_step_are_never_saved(tiny, tmp_path: Path, num_steps: int) -> None:
    config = tiny(
        optimizer={"learning_rate": 1e38, "warmup_fraction": 0.0},
        log={"checkpoint_every_steps": 1},
        train={"num_steps": num_steps},
    )
    *events, end = launch({"run": config}, tmp_path).events()
    assert (end.state, end.step) == ("diverged", 1)
    assert "the weight student.towers." in end.reason
    assert "last good checkpoint: none" in end.reason
    assert not any(isinstance(event, CheckpointSaved | EvalDone) for event in events)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_diverged_run_names_its_last_finite_checkpoint(tiny, tmp_path: Path) -> None:
    started = launch({"run": tiny()}, tmp_path)
    for event in started.events():
        if isinstance(event, CheckpointSaved) and event.step == 4:
            with torch.no_grad():
                started.cohort.members[0].state.student.towers.ln_final.bias[0] = math.inf
    assert (event.state, event.step) == ("diverged", 6)  # the first step that is logged after that
    assert f"last good checkpoint: {tmp_path / 'run' / 'checkpoints' / 'step-00000004'}" in event.reason
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_checkpoint_whose_weights_are_not_finite_is_neither_saved_nor_gone_on_from(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    started = launch({"run": tiny()}, tmp_path)
    list(started.events(lambda: next(calls) + 1 == 5))
    (member,) = started.cohort.members
    with torch.no_grad():
        member.state.learned.projections["image"].bias[0] = math.nan
    with pytest.raises(ValueError, match=r"learnt\.projections\.image\.bias is not finite"):
        save_checkpoint(member, 7)
    monkeypatch.setattr(saving, "first_not_finite", lambda _: "")  # as versions before this one saved
    save_checkpoint(member, 7)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"step-00000007.*is refused: NaN or infinity in .*image\.bias"):
        relaunch(started.directories["run"])


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "emptied"])
def test_a_run_whose_folder_is_deleted_fails_alone_with_the_reason(tiny, tmp_path: Path, how: str) -> None:
    started = launch({"gone": tiny(), "stays": tiny()}, tmp_path)
    run, ends = started.directories["gone"], {}
    for event in started.events():
        if isinstance(event, StepDone) and (event.run, event.step) == ("gone", 6):
            if how == "emptied":
                shutil.rmtree(run.checkpoints)
                run.events_file.unlink()
            elif how == "deleted":
                shutil.rmtree(run.path)
            else:
                run.path.rename(tmp_path / "elsewhere")
            if how == "replaced":
                shutil.copytree(tmp_path / "elsewhere", run.path)
        if isinstance(event, RunFinished):
            ends[event.run] = event
    assert (ends["gone"].state, ends["gone"].step) == ("failed", 7)
    assert f"its folder {run.path} was deleted or moved" in ends["gone"].reason
    assert run.path.exists() == (how in ("replaced", "emptied"))
    assert (ends["stays"].state, run_status(started.directories["stays"]).state) == ("finished", "finished")


def test_a_run_whose_folder_goes_away_during_the_last_evaluation_has_not_finished(tiny, tmp_path: Path) -> None:
    started = launch({"run": tiny()}, tmp_path)
    for event in started.events():
        if isinstance(event, EvalDone):
            shutil.rmtree(tmp_path / "run")
    assert (event.state, event.step) == ("failed", 12)
    assert not (tmp_path / "run").exists()


def test_teacher_embeddings_that_are_nan_stop_the_run_at_its_first_step(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    with torch.no_grad():  # such weights do not load; they may still go bad in memory
        for parameter in cohort.teacher._model.parameters():
            parameter.fill_(math.nan)
    *_, end = train(cohort)
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("diverged", 1)
    assert "crd was not finite at step 1" in end.reason


@pytest.mark.parametrize("jump_s", [-86_400 * 400, 86_400 * 400])
def test_a_clock_that_jumps_changes_nothing_that_is_measured(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    started = launch({"run": tiny()}, tmp_path)
    events = started.events()
    next(events)
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + jump_s)
    steps = [event.step for event in events]
    monkeypatch.undo()
    run = started.directories["run"]
    read = read_events(run.events_file)
    assert (read.num_skipped, [event.step for event in read.events][1:]) == (0, steps)
    assert run_status(run).state == "finished"
    assert 0 < read_summary(run).elapsed_s < 60
    assert [found.id for found in list_runs(tmp_path)] == ["run"]


def test_a_place_that_cannot_hold_runs_is_refused_before_a_model_is_loaded(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "build_cohort", lambda *_, **__: pytest.fail("models were loaded first"))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/runs")):
        with pytest.raises(ValueError, match=r"^cannot create a run in [^\n]*--runs DIR$"):
            launch({"run": tiny()}, place)


def test_captions_of_any_kind_train(tiny, tmp_path: Path, write_pairs: Callable[[list[bytes]], str]) -> None:
    odd = [b"word " * 2_000, b"not utf8 \xff\xfe", b"nul \0 in it", b"\x1b[31mred\x1b[0m", b"[/b] [red]", b"plain"]
    spec = write_pairs([b"%d %s" % (number, odd[number % len(odd)]) for number in range(40)])
    config = tiny(data={"train": spec, "validation": spec, "num_pairs": 0}, train={"num_steps": 3})
    *_, end = launch({"run": config}, tmp_path / "runs").events()
    assert isinstance(end, RunFinished)
    assert end.state == "finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with interruptible() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt()
        assert interrupt.exit_code == 128 + number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert "press again to quit at once" in capfd.readouterr().err
