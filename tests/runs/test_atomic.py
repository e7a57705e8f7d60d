"""Old or new, never else: under SIGKILL, under a failure of every system call, and on a full disk."""

import errno
import itertools
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.runs import atomic
from workbench.runs.atomic import DiskFullError, commit_folder, remove_orphans, write_atomically

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
    assert called == ["open", "write", "fsync", "replace", "open", "fsync"]


def test_a_write_cut_short_is_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write_atomically(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_full_disk_says_what_is_needed_and_what_there_is(tmp_path, failing):
    with failing(2, errno.ENOSPC), pytest.raises(DiskFullError, match=r"disk full at .*x: need 3\.0 MB, have "):
        write_atomically(tmp_path / "x", bytes(3_000_000))
    assert names(tmp_path) == []


def test_a_really_full_disk_keeps_the_old_file(tmp_path):
    code = """
import sys
from pathlib import Path
from workbench.runs.atomic import DiskFullError, write_atomically
path = Path(sys.argv[1]) / "file"
write_atomically(path, b"old")
try:
    write_atomically(path, bytes(2_000_000))
except DiskFullError as error:
    print(error)
assert path.read_bytes() == b"old" and len(list(path.parent.iterdir())) == 1
"""
    finished = in_mount(tmp_path, "size=1m", code)
    assert finished.returncode == 0, finished.stderr
    assert "disk full at" in finished.stdout
    assert "need 2.0 MB, have 1.0 MB" in finished.stdout


def in_mount(folder: Path, options: str, code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code, given ``folder``, where a small file system of its own is mounted."""
    mount = f"mount -t tmpfs -o {options} tmpfs {folder}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("mounting needs root")
    environment = {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[2])}
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path, killed):
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
        num_orphans += len(remove_orphans(tmp_path))
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


def test_a_committed_folder_appears_whole(tmp_path):
    commit_folder(make_folder(tmp_path / ".tmp-a", "new"), tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert content_of(tmp_path / "a") == {"new"}


def test_a_folder_is_only_replaced_where_that_is_asked_for(tmp_path):
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
        remove_orphans(tmp_path)
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
        remove_orphans(tmp_path)
        assert names(tmp_path) == ["a"]
        (number,) = content_of(tmp_path / "a")
        assert int(number) - last in (count, count + 1)
        last = int(number)
    assert last >= KILLS


def test_a_folder_set_aside_by_a_kill_is_put_back(tmp_path):
    make_folder(tmp_path / ".old-a", "old")
    make_folder(tmp_path / ".tmp-a", "new")
    assert remove_orphans(tmp_path) == [".old-a", ".tmp-a"]
    assert content_of(tmp_path / "a") == {"old"}
    assert names(tmp_path) == ["a"]


def test_young_orphans_are_spared_on_request_and_other_files_always(tmp_path):
    (tmp_path / ".tmp-young").write_text("")
    (tmp_path / "tmp-mine").write_text("")
    assert remove_orphans(tmp_path, older_than_s=60) == []
    os.utime(tmp_path / ".tmp-young", (0, 0))
    assert remove_orphans(tmp_path, older_than_s=60) == [".tmp-young"]
    assert names(tmp_path) == ["tmp-mine"]
    assert remove_orphans(tmp_path / "missing") == []
