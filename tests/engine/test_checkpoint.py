import json
import random
from pathlib import Path

import pytest
import tomli_w
import torch

from workbench.config.toml import read_toml
from workbench.engine import build, checkpoint
from workbench.engine.build import build_cohort
from workbench.engine.checkpoint import checkpoints_bytes
from workbench.engine.device import resolved
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import CheckpointSaved, RunFinished, RunResumed
from workbench.models.spec import load_model
from workbench.models.weights import weights_sha256
from workbench.resources import code_sha256
from workbench.runs.checkpoints import newest_checkpoint, read_manifest, write_checkpoint
from workbench.runs.directory import find_run, list_runs
from workbench.runs.liveness import Command
from workbench.runs.summary import read_summary


def undisturbed(config) -> str:
    cohort = build_cohort({"run": config})
    for _ in train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


def run_to_end(started) -> str:
    for _ in started.events():
        pass
    return weights_sha256(started.cohort.members[0].state)


@pytest.mark.parametrize("stop_after", [1, 4, 7, 12])
def test_an_interrupted_run_resumes_bit_identically(tiny, tmp_path: Path, stop_after: int) -> None:
    calls = iter(range(100))
    started = launch({"run": tiny()}, tmp_path)
    *_, end = started.events(lambda: next(calls) + 1 == stop_after)
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("interrupted", stop_after)
    resumed = relaunch(find_run(tmp_path, "run"))
    events = list(resumed.events())
    assert isinstance(events[0], RunResumed)
    assert events[0].step == stop_after
    assert weights_sha256(resumed.cohort.members[0].state) == undisturbed(tiny())
    assert read_summary(find_run(tmp_path, "run")).state == "finished"


def test_a_member_of_a_cohort_resumes_alone(tiny, tmp_path: Path) -> None:
    calls = iter(range(100))
    configs = {"one": tiny(), "two": tiny(loss={"fd": {"weight": 0.0}})}
    for _ in launch(configs, tmp_path).events(lambda: next(calls) == 4):
        pass
    assert run_to_end(relaunch(find_run(tmp_path, "two"))) == undisturbed(configs["two"])


def test_a_damaged_checkpoint_is_skipped(tiny, tmp_path: Path) -> None:
    for _ in launch({"run": tiny(log={"keep_checkpoints": 3})}, tmp_path).events():
        pass
    run = find_run(tmp_path, "run")
    newest = newest_checkpoint(run)
    assert newest is not None
    assert newest.name == "step-00000012"
    weights = newest / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    before = newest_checkpoint(run)
    assert before is not None
    assert before.name == "step-00000008"


def test_old_checkpoints_make_room(tiny, tmp_path: Path) -> None:
    for _ in launch({"run": tiny()}, tmp_path).events():
        pass
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000008", "step-00000012"]


def test_a_checkpoint_is_a_model_that_open_clip_reads(tiny, tmp_path: Path) -> None:
    import open_clip

    started = launch({"run": tiny()}, tmp_path)
    saved = [event for event in started.events() if isinstance(event, CheckpointSaved)][-1]
    theirs = open_clip.create_model(f"local-dir:{saved.path}").eval()
    ours = load_model("run:run", runs_dir=tmp_path).eval()
    tokens = ours.tokenizer(["a red circle above a blue square"])
    with torch.no_grad():
        assert torch.equal(theirs.encode_text(tokens), ours.encode_text(tokens))
    assert weights_sha256(ours.towers) == saved.weights_sha256


def test_a_full_disk_is_a_warning_until_the_last_weights_cannot_be_saved(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.engine import checkpoint as module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_checkpoint", full)
        events = list(launch({"run": tiny()}, tmp_path).events())
    assert sum("checkpoint not saved" in getattr(event, "message", "") for event in events) == 3
    assert (events[-1].state, events[-1].step) == ("failed", 12)
    assert "its last weights are not saved" in events[-1].reason
    assert "workbench runs resume run" in events[-1].reason
    assert run_to_end(relaunch(find_run(tmp_path, "run"))) == undisturbed(tiny())


def test_older_checkpoints_make_room_on_a_full_disk(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.engine import checkpoint as module

    def tight(run, *arguments):
        if len(list(run.checkpoints.glob("step-*"))) >= 2:
            raise OSError(28, "No space left on device")
        return write_checkpoint(run, *arguments)

    monkeypatch.setattr(module, "write_checkpoint", tight)
    *_, end = launch({"run": tiny(log={"keep_checkpoints": 5})}, tmp_path).events()
    assert end.state == "finished"
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000008", "step-00000012"]


def test_commands_for_a_run_that_died_are_void(tiny, tmp_path: Path) -> None:
    calls = iter(range(100))
    for _ in launch({"run": tiny()}, tmp_path).events(lambda: next(calls) == 4):
        pass
    run = find_run(tmp_path, "run")
    (run.control / "00000000000000000001-aa.json").write_text(Command(kind="stop").model_dump_json())
    assert run_to_end(relaunch(run)) == undisturbed(tiny())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_run_ends_as_an_undisturbed_one(tiny_table, tiny, train_and_kill, tmp_path: Path, seed: int) -> None:
    """SIGKILL at a random moment, twice; what is resumed in the end is bit-identical."""
    tiny_table["train"] |= {"num_steps": 60}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(tiny_table))
    draw = random.Random(seed)
    train_and_kill(tmp_path / "tiny.toml", draw.randrange(2, 12), draw.randrange(2, 12))
    resumed = relaunch(find_run(tmp_path, "run"))
    assert run_to_end(resumed) == undisturbed(tiny(train={"num_steps": 60}))


def test_run_toml_holds_every_setting_and_the_machine(tiny, tmp_path: Path) -> None:
    from workbench.config.toml import load_run_config, read_toml

    launch({"run": tiny()}, tmp_path)
    path = find_run(tmp_path, "run").config_file
    assert load_run_config(path) == resolved(tiny())
    assert read_toml(path)["machine"]["torch"] == torch.__version__
    json.dumps(read_toml(path))


def test_a_run_records_its_teacher_and_code(tiny, tmp_path: Path) -> None:
    started = launch({"run": tiny()}, tmp_path)
    run_to_end(started)
    run = find_run(tmp_path, "run")
    teacher = started.cohort.teacher
    recorded = read_manifest(newest_checkpoint(run))["teacher"]
    assert recorded == {"weights_sha256": teacher.fingerprint(), "scale": pytest.approx(float(teacher.scale))}
    assert read_toml(run.config_file)["machine"]["code_sha256"] == code_sha256()


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """``free(n)``: the disk has n bytes free."""

    def set_free(num_bytes: int) -> None:
        monkeypatch.setattr(checkpoint, "free_bytes", lambda _: num_bytes)

    return set_free


def test_the_room_reckoned_with_is_what_checkpoints_really_take(tiny, tmp_path: Path) -> None:
    """Two are kept while a third is written."""
    started = launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path)
    for _ in started.events():
        pass
    run = started.directories["run"]
    (member,) = started.cohort.members
    assert len(list(run.checkpoints.iterdir())) == 2
    written = on_disk(run.checkpoints)
    assert 0.7 * written * 3 / 2 < checkpoints_bytes(member) < written * 3 / 2  # plus headers and buffers


@pytest.mark.parametrize(
    ("log", "at_a_time"),
    [({"checkpoint_every_steps": 0}, 2), ({"keep_checkpoints": 1}, 2), ({"checkpoint_every_steps": 1}, 3)],
)
def test_a_run_that_saves_seldom_or_keeps_few_needs_less(tiny, log: dict, at_a_time: int) -> None:
    (member,) = build_cohort({"run": tiny(log=log)}).members
    num_bytes = 4 * sum(p.numel() for p in member.state.parameters())
    assert checkpoints_bytes(member) == at_a_time * 3 * num_bytes


def test_too_small_a_disk_is_refused_before_the_data_are_read(tiny, tmp_path: Path, free, monkeypatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(build, "open_dataset", read)
    free(100_000)
    with pytest.raises(
        ValueError, match=r"^disk full at \S+: needs about \d+ kB, has .*log\.keep_checkpoints=1, .*--runs"
    ):
        launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path / "runs")
    assert list_runs(tmp_path / "runs") == []


def test_members_of_a_cohort_fill_one_disk_together(tiny, tmp_path: Path, free) -> None:
    one = checkpoints_bytes(build_cohort({"run": tiny()}).members[0])
    free(one)
    launch({"alone": tiny()}, tmp_path)
    with pytest.raises(ValueError, match="disk full"):
        launch({"a": tiny(), "b": tiny()}, tmp_path)
    free(2 * one)
    launch({"a": tiny(), "b": tiny()}, tmp_path)


def test_what_a_resumed_or_forked_run_has_on_disk_already_is_room(tiny, tmp_path: Path, free) -> None:
    started = launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path)
    for event in started.events():
        if event.step == 9:
            break
    run = started.directories["run"]
    (member,) = started.cohort.members
    missing = checkpoints_bytes(member) - on_disk(run.checkpoints)
    free(missing - 1)
    with pytest.raises(ValueError, match=r"disk full .*; make room there$"):
        relaunch(run)
    assert run.exists
    free(missing)
    relaunch(run)
    free(1000)
    planned = plan_fork(run, at=8)
    with pytest.raises(ValueError, match=r"disk full .*; make room there$"):
        planned.launch("forked")
    assert [found.id for found in list_runs(tmp_path)] == ["run"]


def test_a_run_that_is_not_kept_needs_no_disk(tiny, free) -> None:
    free(0)
    build_cohort({"run": tiny()})
