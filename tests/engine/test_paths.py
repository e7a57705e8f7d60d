"""Where files are: recorded so that it holds from everywhere, and exchanged where they have moved."""

import shutil
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config, merge, read_toml
from workbench.engine.launch import launch, relaunch
from workbench.engine.paths import with_absolute_paths
from workbench.events import RunFinished, RunResumed, Warned
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.runs.directory import RunDirectory


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
