"""Where files are: recorded so that it holds from everywhere, and exchanged where they have moved."""

import shutil
import threading
import time
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config, merge, read_toml
from workbench.engine import loop
from workbench.engine.build import build_cohort
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.settings import applied_overrides, with_absolute_paths
from workbench.events import CheckpointSaved, Commanded, RunFinished, RunResumed, StepDone, Warned
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.models.weights import weights_sha256
from workbench.runs import liveness
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import run_status, send_command


@pytest.fixture
def folder(tmp_path: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with pairs and a teacher of its own."""
    folder = tmp_path / "project"
    write_pairs(folder / "pairs", "number")
    write_pairs(folder / "held-out", "held out")
    shutil.copytree(tiny_models["teacher"], folder / "teacher")
    monkeypatch.chdir(folder)
    return folder


def write_pairs(folder: Path, words: str) -> None:
    folder.mkdir(parents=True)
    for number in range(60):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number}.png")
    lines = [f"{number}.png\t{words} {number}" for number in range(60)]
    (folder / "pairs.tsv").write_text("\n".join(["filepath\ttitle", *lines]) + "\n")


@pytest.fixture
def stopped(tiny, folder: Path) -> RunDirectory:
    """A run that was interrupted after 6 steps of 12, with relative paths to its files."""
    data = {"train": "pairs/pairs.tsv", "validation": "held-out/pairs.tsv", "test": ""}
    calls = iter(range(100))
    started = launch({"run": tiny(data=data, teacher={"model": "teacher"})}, folder / "runs")
    for _ in started.events(lambda: next(calls) == 5):
        pass
    return started.directories["run"]


def moved_to(new: Path, stopped: RunDirectory) -> RunDirectory:
    """The run, its pairs and its teacher elsewhere, and nothing where they were."""
    project = stopped.path.parents[1]
    shutil.copytree(project, new)
    for name in ("pairs", "held-out", "teacher", "runs"):
        shutil.rmtree(project / name)
    return RunDirectory(new / "runs" / "run")


def sets(folder: Path) -> list[str]:
    paths = {"data.train": folder / "pairs" / "pairs.tsv", "data.validation": folder / "held-out" / "pairs.tsv"}
    return [f"{name}={path}" for name, path in {**paths, "teacher.model": folder / "teacher"}.items()]


def finish(run: RunDirectory, overrides: list[str]) -> tuple[list[str], RunFinished]:
    """What the resumed run warned of, and how it ended."""
    events = list(relaunch(run, overrides=overrides).events())
    assert isinstance(events[0], RunResumed)
    assert isinstance(events[-1], RunFinished)
    return [event.message for event in events if isinstance(event, Warned)], events[-1]


def test_paths_are_recorded_absolute_and_names_as_they_are(folder: Path) -> None:
    (folder / "w.pt").touch()
    (folder / "model.json").touch()
    for name, given, recorded in (
        ("data.train", "pairs", f"{folder}/pairs"),
        ("data.train", "samples:scenes", "samples:scenes"),
        ("data.train", "pairs/{0..3}.tar", f"{folder}/pairs/{{0..3}}.tar"),
        ("data.train", "folder:pairs", f"folder:{folder}/pairs"),
        ("data.train", "coco:w.json@pairs", f"coco:w.json@{folder}/pairs"),
        ("data.train", "karpathy:model.json/val@pairs", f"karpathy:{folder}/model.json/val@{folder}/pairs"),
        ("data.train", "pairs*2 + samples:emoji", f"{folder}/pairs*2.0 + samples:emoji"),
        ("data.train", "gone.tar", "gone.tar"),
        ("data.test", "auto", "auto"),
        ("data.test", "", ""),
        ("teacher.model", "teacher", f"{folder}/teacher"),
        ("teacher.model", "sample:scenes", "sample:scenes"),
        ("teacher.model", "open_clip:ViT-B/32@w.pt", f"open_clip:ViT-B/32@{folder}/w.pt"),
        ("teacher.model", "open_clip:ViT-B-32@openai", "open_clip:ViT-B-32@openai"),
        ("teacher.model", "config:model.json@w.pt", f"config:{folder}/model.json@{folder}/w.pt"),
        ("teacher.model", "run:one", "run:one"),
        ("student.model", "mini-w64", "mini-w64"),
    ):
        group, key = name.split(".")
        config = with_absolute_paths(RunConfig.parse({group: {key: given}}))
        assert config.model_dump()[group][key] == recorded, given


def test_a_run_with_relative_paths_resumes_from_any_folder(
    stopped: RunDirectory, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_run_config(stopped.config_file).data.train == str(folder / "pairs" / "pairs.tsv")
    monkeypatch.chdir(tmp_path)
    assert finish(stopped, [])[1].state == "finished"


def test_a_run_recorded_with_relative_paths_still_resumes(stopped: RunDirectory) -> None:
    edited = merge(read_toml(stopped.config_file), {"data": {"train": "pairs/pairs.tsv"}})
    stopped.config_file.write_text(tomli_w.dumps(edited))
    assert finish(stopped, [])[1].state == "finished"


def test_a_moved_run_resumes_with_new_paths_and_records_them(
    stopped: RunDirectory, folder: Path, tmp_path: Path
) -> None:
    run = moved_to(tmp_path / "new", stopped)
    with pytest.raises(ValueError, match=r"--set teacher\.model=SPEC"):
        relaunch(run)
    listed = run.config_file.stat().st_mtime_ns
    relaunch(run, overrides=sets(tmp_path / "new"))._locks.close()  # as if killed before its first step
    assert run.config_file.stat().st_mtime_ns == listed
    table = read_toml(run.config_file)
    assert table["data"]["train"] == str(tmp_path / "new" / "pairs" / "pairs.tsv")
    assert table["machine"]["moved"]["teacher.model"] == str(folder / "teacher")
    warned, end = finish(run, [])
    assert (warned, end.state, end.step) == ([], "finished", 12)


@pytest.mark.parametrize("name", ["data.train", "data.validation", "teacher.model"])
def test_new_paths_must_lead_to_the_same_files(stopped: RunDirectory, tmp_path: Path, name: str) -> None:
    before = stopped.config_file.read_bytes()
    write_pairs(tmp_path / "other", "another")
    save_folder(load_model("sample:scenes"), tmp_path / "other")
    other = tmp_path / "other" if name == "teacher.model" else tmp_path / "other" / "pairs.tsv"
    with pytest.raises(ValueError, match=rf"{name}.* workbench runs fork run"):
        relaunch(stopped, overrides=[f"{name}={other}"])
    assert stopped.config_file.read_bytes() == before


def test_anything_but_a_path_is_a_forks(stopped: RunDirectory) -> None:
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate .*workbench runs fork run --set optimizer"):
        relaunch(stopped, overrides=["optimizer.learning_rate=0.5"])


def test_a_path_without_fingerprint_is_accepted_with_a_note(stopped: RunDirectory, folder: Path) -> None:
    shutil.copytree(folder / "held-out", folder / "again")
    warned, end = finish(stopped, ["data.test=again/pairs.tsv"])
    assert end.state == "finished"
    assert "data.test" in warned[0]


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
        build_cohort({"run": tiny()}).members[0].change(changes)
    events = steer(launch({"run": tiny(**EVERY_STEP)}, tmp_path), 3, ("set", changes))
    assert [
        words in event.message for event in events if isinstance(event, Warned) and "not changed" in event.message
    ] == [True]
    assert not any(isinstance(event, Commanded) for event in events)
    assert events[-1].state == "finished"


def test_commands_are_looked_for_before_the_first_step_ends_and_then_from_time_to_time(
    tiny, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(liveness, "POLL_S", 3600)
    started = launch({"run": tiny(**EVERY_STEP)}, tmp_path)
    send_command(started.directories["run"], "checkpoint")
    events = steer(started, 4, ("stop", {}))
    assert [event.command for event in events if isinstance(event, Commanded)] == ["checkpoint"]
    assert events[-1].state == "finished"


def test_a_paused_run_takes_commands_and_continues_unchanged(tiny, tmp_path: Path) -> None:
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
def test_a_paused_run_can_be_ended(tiny, tmp_path: Path, ending: str) -> None:
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
