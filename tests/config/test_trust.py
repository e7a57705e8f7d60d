"""Which files of other people's code may be run."""

import re
from pathlib import Path

import pytest

from workbench.config.trust import VARIABLE, check_trusted, named_in_code, trust_everything


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in which nothing is trusted."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, "")
    return folder


def refused(file: Path) -> bool:
    try:
        check_trusted(file)
    except ValueError as error:
        return (
            re.fullmatch(r".* (outside the working directory|in the folder of run) .* --trust", str(error)) is not None
        )
    return False


def test_files_of_the_working_directory_and_below_run(working: Path) -> None:
    assert not refused(Path("loss.py"))
    assert not refused(Path("ideas/mine/loss.py"))
    assert not refused(working / "loss.py")


def test_files_elsewhere_do_not(working: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "loss.py")
    assert refused(Path("../loss.py"))
    assert refused(Path("ideas/../../loss.py"))
    (tmp_path / "loss.py").touch()
    (working / "link.py").symlink_to(tmp_path / "loss.py")
    assert refused(Path("link.py"))


def test_nor_do_those_in_the_folder_of_a_run(working: Path) -> None:
    run = working / "runs" / "planted"
    (run / "code").mkdir(parents=True)
    (run / "run.toml").touch()
    assert refused(run / "loss.py")
    assert refused(run / "code" / "loss.py")
    assert not refused(working / "runs" / "loss.py")


def test_the_root_folder_is_never_trusted(working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert refused(working / "loss.py")


@pytest.mark.usefixtures("working")
def test_trust_holds_for_this_process_and_those_that_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with named_in_code():
        assert not refused(tmp_path / "loss.py")
    assert refused(tmp_path / "loss.py")
    trust_everything()
    assert not refused(tmp_path / "loss.py")
    monkeypatch.setenv(VARIABLE, "")
    assert refused(tmp_path / "loss.py")
