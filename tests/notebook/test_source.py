from pathlib import Path

import pytest

from workbench.notebook.source import default_runs_dir, open_run, shipped_runs
from workbench.runs.directory import create_run


def test_a_users_run_hides_a_shipped_one_with_its_name(tmp_path: Path) -> None:
    shipped = open_run("example-clip-kd", tmp_path)
    assert shipped.path.parts[-3:] == ("data_samples", "runs", "example-clip-kd")
    own = create_run(tmp_path, "example-clip-kd", "")
    assert open_run("example-clip-kd", tmp_path) == own
    assert open_run(own, tmp_path / "nowhere") is own
    assert open_run(own.path, tmp_path / "nowhere") == own


def test_for_a_misspelled_run_the_nearest_is_suggested(tmp_path: Path) -> None:
    create_run(tmp_path, "mine-long", "")
    with pytest.raises(ValueError, match="example-tinyclip"):
        open_run("example-tinyclp", tmp_path)
    with pytest.raises(ValueError, match="mine-long"):
        open_run("mine-lnog", tmp_path)


def test_the_runs_folder_is_the_commands_or_next_to_the_notebook(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("WORKBENCH_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert default_runs_dir() == Path("runs")
    (tmp_path / "runs").mkdir()
    assert default_runs_dir() == Path("..") / "runs"
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "elsewhere"))
    assert default_runs_dir() == tmp_path / "elsewhere"


def test_shipped_runs_are_small_finished_and_complete() -> None:
    from workbench.runs.summary import summarize

    runs = [open_run(name) for name in shipped_runs()]
    assert {run.id for run in runs} == {"example-clip-kd", "example-tinyclip"}
    sizes = [path.stat().st_size for run in runs for path in run.path.rglob("*") if path.is_file()]
    assert sum(sizes) < 2e6
    assert {summarize(run).state for run in runs} == {"finished"}
