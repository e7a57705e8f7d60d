import socket
import sys
from pathlib import Path

import pytest

from workbench.notebook import launch
from workbench.notebook.launch import bundled_notebooks, copy_notebooks, free_port


def test_missing_notebooks_are_copied_and_edits_are_kept(tmp_path: Path) -> None:
    names = [path.name for path in bundled_notebooks()]
    assert names[:3] == ["01_affinity_matrices.ipynb", "02_gradients.ipynb", "03_pruning_masks.ipynb"]
    folder = tmp_path / "deep" / "mine"
    assert [path.name for path in copy_notebooks(folder)] == names
    (folder / names[0]).write_text("edited")
    (folder / names[1]).unlink()
    assert [path.name for path in copy_notebooks(folder)] == [names[1]]
    assert (folder / names[0]).read_text() == "edited"


def test_a_used_port_is_skipped_and_none_left_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port, 5) > port
        with pytest.raises(ValueError, match="all ports from"):
            free_port(port, 1)


def test_the_command_copies_them_and_starts_jupyterlab(tmp_path: Path, monkeypatch) -> None:
    from workbench.cli.dashboard import notebook

    started = {}
    monkeypatch.setattr(
        launch.os, "execve", lambda *of: started.update(zip(("program", "argv", "env"), of, strict=True))
    )
    notebook(copy=tmp_path / "books", browser=False, runs=tmp_path / "runs")
    assert started["program"] == sys.executable
    assert f"--ServerApp.root_dir={tmp_path / 'books'}" in started["argv"]
    assert "--no-browser" in started["argv"]
    assert set(launch.QUIET) <= set(started["argv"])
    assert started["env"]["WORKBENCH_RUNS"] == str(tmp_path / "runs")
    assert (tmp_path / "books" / "01_affinity_matrices.ipynb").exists()


def test_jupyterlab_accepts_the_quiet_options() -> None:
    from jupyterlab import NeverCheckForUpdate
    from jupyterlab.labapp import LabApp

    assert LabApp().news_url
    app = LabApp()
    app.parse_command_line([*launch.QUIET])
    assert app.news_url is None
    assert app.check_for_updates_class is NeverCheckForUpdate


def test_a_missing_package_is_named_with_its_remedy(monkeypatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name == "jupyterlab" else object())
    with pytest.raises(ValueError, match=r"^the notebooks need jupyterlab: pip install jupyterlab$"):
        launch.check_jupyterlab()
