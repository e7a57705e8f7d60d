"""Atomic writes leave the old or the new content: under SIGKILL, failing system calls, and full disks."""

import errno
import itertools
import multiprocessing
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest

from workbench import files
from workbench.files import DiskFullError, commit_folder, new_folder, sweep, temporary_path, write_atomically
from workbench.process import free_bytes, is_writable

FORK = multiprocessing.get_context("fork")
KILLS = 40


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_text_and_bytes_and_leaves_nothing_else(tmp_path):
    write_atomically(tmp_path / "a.json", "é\n")
    write_atomically(tmp_path / "a.json", b"\x00\xff")
    assert (tmp_path / "a.json").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.json"]


def test_the_mode_is_the_umasks_and_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "real" / "file")
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "latest", "x")
    finally:
        os.umask(umask)
    assert (tmp_path / "latest").is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failure_of_any_call_leaves_the_old_file_or_the_new_one(tmp_path, failing, code):
    path = tmp_path / "file"
    for nth in itertools.count(1):
        path.write_text("old")
        with failing(nth, code) as called:
            try:
                write_atomically(path, "new")
            except OSError:
                was_replaced = "replace" in called[: nth - 1]
                assert path.read_text() == ("new" if was_replaced else "old")
                assert names(tmp_path) == ["file"]
            else:
                break
    assert path.read_text() == "new"
    assert called == ["open", "write", "open", "fsync", "replace", "open", "fsync"]


def test_a_write_cut_short_is_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write_atomically(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_full_disk_reports_needed_and_free_space(tmp_path, failing):
    with failing(2, errno.ENOSPC), pytest.raises(DiskFullError, match=r"disk full at .*x: needs about 3\.0 MB, has "):
        write_atomically(tmp_path / "x", bytes(3_000_000))
    assert names(tmp_path) == []


def test_a_size_that_is_not_known_is_left_out(tmp_path):
    assert "needs" not in str(DiskFullError(tmp_path, 0))


def test_a_really_full_disk_keeps_the_old_file(on_small_disk):
    code = """
import sys
import time
from pathlib import Path
from workbench.files import DiskFullError, write_atomically
path = Path(sys.argv[1]) / "file"
write_atomically(path, b"old")
try:
    write_atomically(path, bytes(2_000_000))
except DiskFullError as error:
    print(error)
assert path.read_bytes() == b"old" and len(list(path.parent.iterdir())) == 1
"""
    finished = on_small_disk("1m", [sys.executable, "-c", code, "."])
    assert finished.returncode == 0, finished.stderr
    assert "disk full at" in finished.stdout
    assert "needs about 2.0 MB, has 1.0 MB" in finished.stdout


def test_a_kill_at_any_time_leaves_a_complete_file(tmp_path, killed):
    path = tmp_path / "file"
    size = 2**18

    def write_forever(counter):
        for number in itertools.count(int(path.read_bytes()[0]) + 1 if path.exists() else 1):
            write_atomically(path, bytes([number % 256]) * size)
            counter.value += 1

    total, num_orphans, last = 0, 0, 0
    for count in killed(write_forever, KILLS):
        content = path.read_bytes()
        assert content == bytes(content[:1]) * size
        # The last may stand though it was not yet counted.
        assert (content[0] - last) % 256 in (count % 256, (count + 1) % 256)
        num_orphans += len(sweep(tmp_path, is_ours=True))
        assert names(tmp_path) == ["file"]
        total, last = total + count, content[0]
    assert total > KILLS
    assert 0 < num_orphans <= KILLS


def make_folder(path: Path, content: str) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "weights").write_text(content)
    (path / "manifest").write_text(content)
    return path


def content_of(folder: Path) -> set[str]:
    return {(folder / "inner" / "weights").read_text(), (folder / "manifest").read_text()}


def test_a_committed_folder_appears_complete(tmp_path):
    commit_folder(make_folder(tmp_path / ".tmp-a", "new"), tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert content_of(tmp_path / "a") == {"new"}


def test_a_folder_is_replaced_only_with_replace(tmp_path):
    make_folder(tmp_path / "a", "old")
    with pytest.raises(FileExistsError):
        commit_folder(make_folder(tmp_path / ".tmp-a", "new"), tmp_path / "a", replace=False)
    assert content_of(tmp_path / "a") == {"old"}
    commit_folder(tmp_path / ".tmp-a", tmp_path / "a")
    assert content_of(tmp_path / "a") == {"new"}
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_of_any_call_leaves_the_old_folder_or_the_new_one(tmp_path, failing, is_there):
    for nth in itertools.count(1):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if is_there:
            make_folder(tmp_path / "a", "old")
        make_folder(tmp_path / ".tmp-a", "new")
        with failing(nth, errno.EIO) as called:
            try:
                commit_folder(tmp_path / ".tmp-a", tmp_path / "a")
            except OSError:
                pass
            else:
                break
        assert not (tmp_path / "a").exists() or content_of(tmp_path / "a") in ({"old"}, {"new"})
        assert (tmp_path / "a").exists() or not is_there
        sweep(tmp_path, is_ours=True)
        assert names(tmp_path) in (["a"], [] if not is_there else ["a"])
    assert content_of(tmp_path / "a") == {"new"}
    assert called.count("fsync") == 5  # two files, two folders, and the one around them


def test_a_kill_while_replacing_a_folder_leaves_the_old_or_the_new_one(tmp_path, killed):
    make_folder(tmp_path / "a", "0")

    def replace_forever(counter):
        for number in itertools.count(int(content_of(tmp_path / "a").pop()) + 1):
            commit_folder(make_folder(tmp_path / f".tmp-{number}", str(number)), tmp_path / "a")
            counter.value += 1

    last = 0
    for count in killed(replace_forever, KILLS):
        sweep(tmp_path, is_ours=True)
        assert names(tmp_path) == ["a"]
        (number,) = content_of(tmp_path / "a")
        assert int(number) - last in (count, count + 1)
        last = int(number)
    assert last >= KILLS


def test_a_folder_set_aside_by_a_kill_is_put_back(tmp_path):
    make_folder(tmp_path / ".old-a", "old")
    make_folder(tmp_path / ".tmp-a", "new")
    assert sweep(tmp_path, is_ours=True) == [".old-a", ".tmp-a"]
    assert content_of(tmp_path / "a") == {"old"}
    assert names(tmp_path) == ["a"]


def write_and_wait(folder: Path, counter) -> None:
    temporary_path(folder / "model").mkdir()
    temporary_path(folder / "recipe.toml").write_text("half")
    counter.value = 1
    time.sleep(60)


def test_what_a_living_process_writes_is_spared_until_it_is_dead(tmp_path, forked):
    (tmp_path / "tmp-mine").write_text("")
    written = FORK.Value("q", 0, lock=False)
    with forked(write_and_wait, tmp_path, written) as writer:
        while not written.value and writer.is_alive():
            time.sleep(0.01)
        assert sweep(tmp_path) == []
        assert len(names(tmp_path)) == 3
    assert len(sweep(tmp_path)) == 2
    assert names(tmp_path) == ["tmp-mine"]
    assert sweep(tmp_path / "missing") == []


def test_a_process_with_the_id_of_a_dead_writer_is_not_the_writer(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(files, "started_at", lambda _: "an hour ago")
        temporary_path(tmp_path / "file").touch()
    mine = temporary_path(tmp_path / "file")
    mine.touch()
    assert len(sweep(tmp_path)) == 1
    assert names(tmp_path) == [mine.name]


def test_what_another_machine_writes_is_spared_for_a_day(tmp_path, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "_host_digest", lambda: "0123abcd")
        theirs = temporary_path(tmp_path / "folder")
    make_folder(theirs, "half")
    (tmp_path / ".tmp-older-version-0123abcd").touch()
    assert sweep(tmp_path) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * files.OTHERS_AGE_S)
    assert len(sweep(tmp_path)) == 2
    assert names(tmp_path) == []


def test_a_folder_that_another_process_may_be_replacing_is_not_put_back_at_once(tmp_path, monkeypatch):
    make_folder(tmp_path / ".old-a", "old")
    assert sweep(tmp_path) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * files.ASIDE_AGE_S)
    assert sweep(tmp_path) == [".old-a"]
    assert content_of(tmp_path / "a") == {"old"}


def test_a_new_folder_appears_complete_and_removes_leftovers(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(files, "started_at", lambda _: "an hour ago")
        make_folder(temporary_path(tmp_path / "other"), "half")
    with new_folder(tmp_path / "a") as folder:
        assert names(tmp_path) == [folder.name]
        (folder / "file").write_text("x")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "file").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_an_error_in_a_new_folder_leaves_nothing_not_even_its_parents(tmp_path, error):
    def write() -> None:
        with new_folder(tmp_path / "missing" / "too" / "a") as folder:
            (folder / "file").write_text("x")
            raise error

    with pytest.raises(type(error)):
        write()
    assert names(tmp_path) == []


def test_a_new_folder_replaces_a_full_one_only_with_replace(tmp_path):
    make_folder(tmp_path / "a", "old")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a") as folder:
        make_folder(folder / "x", "new")
    assert content_of(tmp_path / "a") == {"old"}
    with new_folder(tmp_path / "a", replace=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_a_new_folder_on_a_full_disk_reports_its_full_size(on_small_disk):
    code = """
from pathlib import Path
from workbench.files import new_folder, write_atomically
with new_folder(Path("deep/a")) as folder:
    write_atomically(folder / "one", bytes(600_000))
    write_atomically(folder / "two", bytes(700_000))
"""
    finished = on_small_disk("1m", [sys.executable, "-c", code])
    assert "DiskFullError: disk full at deep/a: needs about 1.3 MB, has 1.0 MB" in finished.stderr
    assert finished.stdout == "left:\n"


def test_names_as_long_as_can_be_are_written(tmp_path):
    for name in ("x" * 255, "é" * 127):
        write_atomically(tmp_path / name, "x")
    assert names(tmp_path) == sorted(("x" * 255, "é" * 127))


def test_a_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path / "a/b/c") <= shutil.disk_usage(tmp_path).total
    assert is_writable(tmp_path / "a/b/c")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert not is_writable(tmp_path / "file/runs")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_another_users_folder_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not is_writable(tmp_path / "runs")
