"""A run and a study in a child process, and the explorers that follow them."""

import asyncio
from pathlib import Path

import pytest

from workbench.events import EvalDone, RunFinished, RunStarted, StepDone
from workbench.notebook import StudyExplorer, TrainingExplorer, sweep, train
from workbench.notebook import explorer as module
from workbench.notebook.process import Child
from workbench.process import started_at
from workbench.runs.directory import RunDirectory, create_run, list_runs
from workbench.runs.log import EventLog

SMALL = ("data.num_pairs=100", "data.num_validation_pairs=50", "data.num_test_pairs=50", "train.batch_size=50")
NUMBERS = dict.fromkeys(("learning_rate", "grad_norm", "step_time_s", "pairs_per_s", "peak_mb"), 1.0)


def log(run: RunDirectory, *events) -> None:
    with EventLog(run.events_file) as log:
        for event in events:
            log.append(event)


def started(run: str, num_steps: int = 4) -> RunStarted:
    sizes = {"num_pairs": 10, "num_parameters": 1, "num_embedding_parameters": 1}
    return RunStarted(run=run, step=0, num_steps=num_steps, batch_size=5, host="elsewhere", pid=1, **sizes)


def step(run: str, number: int, clip: float = 2.0) -> StepDone:
    terms = {"clip": clip, "mine": 1.0}
    return StepDone(
        run=run, step=number, loss=clip + 1, terms=terms, weighted=terms, scales={}, elapsed_s=3.0 * number, **NUMBERS
    )


def measured(run: str, number: int, split: str, value: float) -> EvalDone:
    metrics = {"image_to_text_r1": value, "cka": 0.5}
    return EvalDone(run=run, step=number, split=split, num_pairs=9, metrics=metrics, elapsed_s=1.0)


def test_a_run_is_shown_from_before_its_first_step_to_its_end(tmp_path: Path) -> None:
    run = create_run(tmp_path, "r", "")
    explorer = TrainingExplorer(run)
    assert explorer.error is None
    empty = explorer.image.value
    log(run, started("r"), step("r", 1), step("r", 2, clip=1.5), measured("r", 2, "validation", 0.25))
    explorer.refresh()
    assert explorer.image.value != empty
    assert explorer.selection["losses"] == {"clip": 1.5, "mine": 1.0}
    assert explorer.selection["metrics"]["validation"]["image_to_text_r1"] == 0.25
    assert "2 of 4, about 6 s left" in explorer._bar._line.value
    explorer.metric.value = "cka"
    assert explorer.error is None
    assert explorer.figure.axes[1].get_lines()[0].get_ydata().tolist() == [0.5]
    explorer.smoothing.value = 0.9
    assert explorer.figure.axes[0].get_lines()[1].get_ydata()[1] > 1.5
    assert "left" in explorer._bar._line.value
    log(
        run,
        measured("r", 4, "test", 0.5),
        RunFinished(run="r", step=4, state="stopped", elapsed_s=9.0, reason="enough"),
    )
    explorer.refresh()
    assert explorer._bar._line.value == "stopped at step 4 of 4 after 6 s: enough"
    assert explorer.stop_button.layout.display == "none"
    assert not explorer.is_running


def test_stopping_an_ended_run_is_an_error_line(tmp_path: Path) -> None:
    run = create_run(tmp_path, "r", "")
    log(run, started("r"), step("r", 4), RunFinished(run="r", step=4, state="finished", elapsed_s=9.0))
    explorer = TrainingExplorer(run)
    explorer.stop_button.click()
    assert "finished" in explorer.message.value


@pytest.mark.slow
def test_a_run_that_does_not_start_shows_why_and_is_removed(tmp_path: Path) -> None:
    run = create_run(tmp_path, "r", "[train\n")

    async def watch() -> TrainingExplorer:
        explorer = TrainingExplorer(run, Child(["runs", "resume", str(run.path)], run.output_file))
        await explorer.ended()
        return explorer

    explorer = asyncio.run(watch())
    assert "the run did not start: " in explorer.message.value
    assert list_runs(tmp_path) == []
    explorer.refresh()
    assert "the run did not start: " in explorer.message.value


def test_a_wrong_setting_or_study_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss\.clp|clip"):
        train("baseline", settings=["loss.clp.weight=2"], runs_dir=tmp_path)
    with pytest.raises(ValueError, match="one_loss"):
        sweep("one_los", runs_dir=tmp_path)
    with pytest.raises(ValueError, match="is a search"):
        sweep("clip_kd_search", runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_running_training_is_followed_and_can_be_stopped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "REFRESH_EVERY_S", 0.3)
    settings = [*SMALL, "log.every_steps=1", "evaluate.every_steps=100000"]

    async def watch() -> tuple[TrainingExplorer, list[int]]:
        explorer = train("baseline", steps=100_000, settings=settings, name="long", runs_dir=tmp_path)
        seen: list[int] = []
        while len(seen) < 3:  # the loop is free meanwhile
            await asyncio.sleep(0.1)
            now = int(explorer.figure.axes[0].get_lines()[0].get_xdata()[-1]) if explorer._events else 0
            seen += [now] if now and now not in seen else []
        explorer.stop_button.click()
        await asyncio.wait_for(explorer.ended(), 120)
        return explorer, seen

    explorer, seen = asyncio.run(asyncio.wait_for(watch(), 400))
    assert seen == sorted(seen)
    assert explorer.selection["state"] == "stopped"
    assert explorer._child is not None
    assert started_at(explorer._child.pid) is None
    assert "stopped at step" in explorer._bar._line.value


@pytest.mark.slow
def test_a_study_is_trained_and_continues_after_a_stop(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = "\n".join(f'[[cells]]\nname = "{name}"\nrecipe = "{name}"' for name in ("baseline", "icl"))
    settings = "\n".join(SMALL)
    (tmp_path / "small.toml").write_text(
        f'question = "?"\nseeds = 2\nsteps = 6\nbaseline = "baseline"\n{cells}\n'
        f"[settings]\nevaluate.every_steps = 2\n{settings}\n"
    )

    async def twice() -> list:
        first = sweep("small.toml", runs_dir=tmp_path / "runs")
        while first.is_running and first.selection == {"runs": 4}:
            await asyncio.sleep(0.1)
        first.stop_button.click()
        await asyncio.wait_for(first.ended(), 120)
        second = sweep("small.toml", runs_dir=tmp_path / "runs")
        await asyncio.wait_for(second.ended(), 300)
        return [first, second]

    first, second = asyncio.run(twice())
    assert first.error is None
    assert second.error is None
    assert second.selection == {"runs": 4, "finished": 4}
    assert "4 of 4 runs finished" in second._bar._line.value
    labels = [text.get_text().strip() for text in second.figure.axes[0].texts]
    assert set(labels) == {"baseline", "icl"}
    table = StudyExplorer("small.toml", runs_dir=tmp_path / "runs").to_frame()
    assert set(table["cell"]) == {"baseline", "icl"}
