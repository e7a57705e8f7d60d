"""Creating, finding and listing runs."""

import errno
import itertools
import multiprocessing
import os
import re
import time
from pathlib import Path

import pytest

from workbench.runs.directory import RunDirectory, check_can_create, create_run, find_run, list_runs, new_run_id


def test_a_new_run_has_its_folders_its_config_and_an_empty_log(tmp_path):
    run = create_run(tmp_path / "deep" / "runs", "a.b_c-1", "seed = 1\n")
    assert run.id == "a.b_c-1"
    assert run.path == tmp_path / "deep" / "runs" / "a.b_c-1"
    assert run.config_file.read_text() == "seed = 1\n"
    assert run.events_file.read_bytes() == b""
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoints",
        "control",
        "events.jsonl",
        "run.toml",
        "snapshots",
    ]
    assert [path.name for path in run.path.parent.iterdir()] == [run.id]


def test_a_taken_id_is_refused_with_both_remedies_and_left_alone(tmp_path):
    create_run(tmp_path, "a", "first")
    with pytest.raises(ValueError, match=r"'a' already exists .* another --name.*workbench runs resume ") as refused:
        create_run(tmp_path, "a", "second")
    assert str(refused.value).endswith(f" {tmp_path / 'a'}")
    assert (tmp_path / "a" / "run.toml").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_of_two_processes_creating_one_id_exactly_one_wins(tmp_path, forked):
    def create(name, ready):
        ready.wait()
        try:
            create_run(tmp_path / "runs", "same", name * 1000)
        except ValueError as error:
            os._exit(3 if "already exists" in str(error) else 4)

    for _ in range(10):
        ready = multiprocessing.get_context("fork").Barrier(2)
        with forked(create, "a", ready) as first, forked(create, "b", ready) as second:
            first.join()
            second.join()
        assert sorted([first.exitcode, second.exitcode]) == [0, 3]
        winner = "a" if first.exitcode == 0 else "b"
        (run,) = list_runs(tmp_path / "runs")
        assert run.config_file.read_text() == winner * 1000
        run.path.rename(tmp_path / f"{time.time_ns()}")


def test_a_failure_of_any_call_leaves_no_run_or_a_complete_one(tmp_path, failing):
    for nth in itertools.count(1):
        runs_dir = tmp_path / str(nth)
        refusal = ""
        with failing(nth, errno.EIO):
            try:
                create_run(runs_dir, "a", "x = 1")
            except ValueError as error:
                refusal = str(error)
        if not refusal:
            break
        assert "input/output error; choose another folder with --runs DIR" in refusal
        left = list(runs_dir.iterdir()) if runs_dir.exists() else []
        assert [path.name for path in left] in ([], ["a"])
        assert all((path / "run.toml").read_text() == "x = 1" for path in left)
    assert nth > 10


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "-x", ".tmp-a", "a b", "é", "a\n", "x" * 101])
def test_an_id_that_could_be_a_path_an_option_or_a_trap_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"run name .*, such as '[\w.-]+'$"):
        create_run(tmp_path, bad, "")
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_runs_folder_is_reported_at_once(tmp_path, failing):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(ValueError, match=r"cannot create a run in .*file.*; choose another folder with --runs"):
            create_run(place, "a", "")
    for code, words in ((errno.EROFS, "read-only file system"), (errno.ENOSPC, "disk full at .* has .* [MG]B")):
        with failing(1, code), pytest.raises(ValueError, match=words):
            create_run(tmp_path / "runs", "a", "")


def test_errors_of_creation_are_found_before_writing_anything(tmp_path):
    check_can_create(tmp_path / "runs", "a")
    assert list(tmp_path.iterdir()) == []
    create_run(tmp_path / "runs", "a", "")
    with pytest.raises(ValueError, match=r"run 'a' already exists in .*runs: choose another --name"):
        check_can_create(tmp_path / "runs", "a")
    with pytest.raises(ValueError, match="run name 'a/b': use letters"):
        check_can_create(tmp_path / "runs", "a/b")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(ValueError, match=r"cannot create a run in .*file.* inside one; choose .* --runs DIR"):
            check_can_create(place, "a")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_a_place_that_even_root_cannot_write_to():
    start = time.perf_counter()
    with pytest.raises(ValueError, match="cannot create a run in /proc/runs"):
        create_run(Path("/proc/runs"), "a", "")
    assert time.perf_counter() - start < 1


def test_a_run_is_found_by_id_and_by_path(tmp_path, run, monkeypatch):
    assert find_run(run.path.parent, run.id) == run
    assert find_run(tmp_path / "elsewhere", run.path) == run
    monkeypatch.chdir(run.path)
    assert find_run(tmp_path / "elsewhere", ".") == run


def test_a_wrong_name_is_answered_with_the_nearest_one(tmp_path, run):
    with pytest.raises(ValueError, match=re.escape("unknown run 'clip-kd-s1': did you mean 'clip-kd-s0'?")):
        find_run(run.path.parent, "clip-kd-s1")
    with pytest.raises(ValueError, match="choose one of: clip-kd-s0"):
        find_run(run.path.parent, run.path / "checkpoints")
    with pytest.raises(ValueError, match="there are no runs in"):
        find_run(tmp_path / "nowhere", "a")


def write_run(path: Path, created_s: float) -> None:
    path.mkdir(parents=True)
    (path / "run.toml").write_text("")
    (path / "events.jsonl").touch()
    os.utime(path / "run.toml", (created_s, created_s))


def test_runs_are_listed_newest_first_and_other_things_are_not(tmp_path):
    for name, created_s in (("b", 200), ("a", 300), ("c", 100), (".tmp-x", 400)):
        write_run(tmp_path / name, created_s)
    (tmp_path / "note.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert [run.id for run in list_runs(tmp_path)] == ["a", "b", "c"]
    assert list_runs(tmp_path / "missing") == []
    assert list_runs(tmp_path / "note.txt") == []


def test_a_new_id_is_readable_and_free(tmp_path):
    first = new_run_id("clip-kd", 0, tmp_path)
    assert re.fullmatch(r"clip-kd-s0-\d{4}-\d{4}", first)
    create_run(tmp_path, first, "")
    second = new_run_id("clip-kd", 0, tmp_path)
    assert second == f"{first}-2" or not second.startswith(first)  # the minute may have passed
    assert new_run_id("some dir/my récipe.toml", 3, tmp_path).startswith("my-r-cipe-s3-")
    assert new_run_id("../..", 3, tmp_path).startswith("run-s3-")


def test_its_files_lie_in_it(tmp_path):
    run = RunDirectory(tmp_path / "a")
    files = [run.config_file, run.events_file, run.summary_file, run.lock_file, run.owner_file, run.output_file]
    assert {path.parent for path in (*files, run.checkpoints, run.snapshots, run.control)} == {run.path}
    assert not run.exists


def test_a_place_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    for call, question in ((lambda: list_runs(tmp_path), "is_dir"), (lambda: find_run(tmp_path, "a"), "exists")):
        with monkeypatch.context() as patched:
            patched.setattr(Path, question, refused)
            with pytest.raises(
                ValueError, match=r"^cannot look for runs in [^\n]*: permission denied; [^\n]*--runs DIR$"
            ):
                call()
