from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image

from workbench.config.toml import read_toml
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.events import RunFinished, RunResumed, Warned
from workbench.runs.checkpoints import newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory


@pytest.fixture
def stopped(tiny, tmp_path: Path) -> RunDirectory:
    """A run with checkpoints after 4 and 6 of its 12 steps."""
    calls = iter(range(100))
    started = launch({"run": tiny()}, tmp_path)
    for _ in started.events(lambda: next(calls) == 5):
        pass
    return started.directories["run"]


def edit(run: RunDirectory, table: str, **changes: object) -> None:
    content = read_toml(run.config_file)
    content[table] |= changes
    run.config_file.write_text(tomli_w.dumps(content))


def warnings_of(run: RunDirectory) -> list[str]:
    """What a resumed run warns of before its first step; it is stopped after that."""
    first, *events = relaunch(run).events(lambda: True)
    assert isinstance(first, RunResumed)
    return [event.message for event in events if isinstance(event, Warned)]


def test_settings_edited_since_the_checkpoint_are_refused_and_shown(stopped: RunDirectory) -> None:
    edit(stopped, "optimizer", learning_rate=0.5)
    edit(stopped, "train", batch_size=10)
    edit(stopped, "data", train="samples:emoji")
    with pytest.raises(ValueError, match=r"^\S+run.toml was edited since step-00000006: [^\n]*$") as refused:
        relaunch(stopped)
    message = str(refused.value)
    assert "optimizer.learning_rate was 0.001 and is 0.5" in message
    assert "train.batch_size was 20 and is 10" in message
    assert "data.train was samples:scenes and is samples:emoji" in message
    assert "workbench runs fork run --set" in message


def test_what_changes_no_step_may_be_edited(stopped: RunDirectory) -> None:
    edit(stopped, "data", num_workers=2, prepare="pixels")
    edit(stopped, "log", every_steps=1)
    assert warnings_of(stopped) == []


def test_a_change_of_machine_warns_of_other_last_bits(stopped: RunDirectory) -> None:
    edit(stopped, "machine", torch="1.0", host="elsewhere")
    (line,) = warnings_of(stopped)
    assert line.startswith("not bit for bit reproducible")
    assert "torch was 1.0 and is" in line
    assert "elsewhere" not in line


def test_an_unfinished_or_damaged_checkpoint_is_skipped_with_a_warning(stopped: RunDirectory) -> None:
    (stopped.checkpoints / "step-00000006" / "manifest.json").unlink()  # a kill before it was written, without a rename
    unfinished = stopped.checkpoints / "step-00000009"
    unfinished.mkdir()
    (unfinished / "open_clip_model.safetensors").write_bytes(b"")
    assert newest_checkpoint(stopped) == stopped.checkpoints / "step-00000004"
    first, second = warnings_of(stopped)
    assert "step-00000009 has no readable manifest: writing it was interrupted" in first
    assert "step-00000006" in second


def test_with_every_checkpoint_damaged_a_run_starts_over_with_a_warning(stopped: RunDirectory) -> None:
    for path in stopped.checkpoints.glob("*/open_clip_model.safetensors"):
        path.write_bytes(path.read_bytes()[:-100])
    first, *events = relaunch(stopped).events()
    assert isinstance(first, RunResumed)
    assert first.step == 0
    assert sum("is damaged: its checksum" in getattr(event, "message", "") for event in events) == 2
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].state, events[-1].step) == ("finished", 12)


def test_a_fork_may_differ_from_the_checkpoint_it_starts_at(stopped: RunDirectory) -> None:
    planned = plan_fork(stopped, at=4, overrides=["optimizer.learning_rate=0.002"])
    fork = planned.create("fork")
    *_, end = relaunch(fork).events(lambda: True)
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("interrupted", 5)
    assert warnings_of(fork) == []


def test_other_pairs_under_the_same_name_are_refused(tiny, tmp_path: Path) -> None:
    def write(words: str) -> None:
        lines = [f"{tmp_path / f'{number}.png'}\t{words} {number}" for number in range(60)]
        (tmp_path / "pairs.tsv").write_text("\n".join(["filepath\ttitle", *lines]) + "\n")

    for number in range(60):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    write("number")
    calls = iter(range(100))
    config = tiny(data={"train": str(tmp_path / "pairs.tsv")})
    started = launch({"run": config}, tmp_path / "runs")
    for _ in started.events(lambda: next(calls) == 5):
        pass
    write("another")
    with pytest.raises(
        ValueError, match=r"^the pairs of data\.train have changed since step-00000006: [^\n]*runs fork"
    ):
        relaunch(started.directories["run"])
    write("number")
    assert relaunch(started.directories["run"])


LOSS = """
from workbench.losses import Loss


class Mine(Loss):
    def __call__(self, comparison):
        return (comparison.projected.image_BD - comparison.teacher.image_BD).square().mean()
"""


@pytest.fixture
def own_loss(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run with a loss from a file, interrupted after 6 steps of 12."""
    monkeypatch.chdir(tmp_path)  # files there need no --trust
    (tmp_path / "mine.py").write_text(LOSS)
    calls = iter(range(100))
    started = launch({"run": tiny(loss={"mine": {"file": str(tmp_path / "mine.py")}})}, tmp_path / "runs")
    for _ in started.events(lambda: next(calls) == 5):
        pass
    return started.directories["run"]


def all_warnings(started) -> list[str]:
    """What a run warns of until its end."""
    return [event.message for event in started.events() if isinstance(event, Warned)]


def test_a_changed_loss_file_is_refused_and_the_same_one_resumes(own_loss: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(LOSS.replace("mean()", "mean() * 2"))
    with pytest.raises(ValueError, match=r"loss\.mine\.file.*mine\.py.* workbench runs fork run --set ") as caught:
        relaunch(own_loss)
    assert "\n" not in str(caught.value)
    file.write_text(LOSS)
    assert not any("loss.mine" in message for message in all_warnings(relaunch(own_loss)))


def test_a_moved_loss_file_must_have_the_same_content(own_loss: RunDirectory, tmp_path: Path) -> None:
    moved = tmp_path / "moved.py"
    (tmp_path / "mine.py").rename(moved)
    moved.write_text(LOSS + "# changed")
    with pytest.raises(ValueError, match=r"loss\.mine\.file=.*moved\.py"):
        relaunch(own_loss, overrides=[f"loss.mine.file={moved}"])
    moved.write_text(LOSS)
    assert not any(
        "loss.mine" in text for text in all_warnings(relaunch(own_loss, overrides=[f"loss.mine.file={moved}"]))
    )


def test_a_fork_warns_once_of_another_loss_file(own_loss: RunDirectory, tmp_path: Path) -> None:
    assert not any("loss.mine" in message for message in all_warnings(plan_fork(own_loss).launch("same")))
    (tmp_path / "mine.py").write_text(LOSS.replace("mean()", "mean() * 2"))
    assert ["loss.mine.file" in message for message in all_warnings(plan_fork(own_loss).launch("other"))].count(
        True
    ) == 1


def test_a_checkpoint_without_a_recorded_loss_file_resumes_with_a_warning(
    own_loss: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(checkpoint: Path) -> dict[str, Any]:
        return {key: value for key, value in read_manifest(checkpoint).items() if key != "loss_files"}

    monkeypatch.setattr("workbench.engine.resume.read_manifest", older)
    (tmp_path / "mine.py").write_text(LOSS + "# changed")
    assert ["loss.mine.file" in message for message in all_warnings(relaunch(own_loss))].count(True) == 1
