"""Files that are no files, and files of any size."""

import os
import socket
import time
from pathlib import Path

import pytest

from workbench.reading import UnreadableError, file_size, read_file, read_part


@pytest.mark.parametrize(
    ("make", "kind"),
    [(Path.mkdir, "a folder"), (os.mkfifo, "a named pipe"), (lambda path: path.symlink_to("/dev/zero"), "a device")],
)
def test_what_is_no_plain_file_is_named_and_not_waited_for(tmp_path: Path, make, kind: str) -> None:
    path = tmp_path / "here"
    make(path)
    start = time.monotonic()
    for read in (lambda: read_file(path, 10), lambda: read_part(path, 0, 10), lambda: file_size(path)):
        with pytest.raises(UnreadableError, match=f"cannot read {path}: it is {kind}, not a file"):
            read()
    assert time.monotonic() - start < 5


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("here")
        with pytest.raises(UnreadableError, match="a socket"):
            read_file(Path("here"), 10)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "here"
    path.write_bytes(b"0123456789")
    assert read_file(path, 10) == b"0123456789"
    assert read_part(path, 4, 3) == b"456"
    assert read_part(path, 8, 100) == b"89"
    with pytest.raises(UnreadableError, match="larger than 9 bytes"):
        read_file(path, 9)


def test_a_sparse_file_of_a_terabyte_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "here"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert file_size(path) == 2**40
    with pytest.raises(UnreadableError, match="larger than 1,000 bytes"):
        read_file(path, 1000)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for read in (lambda path: read_file(path, 1), lambda path: read_part(path, 0, 1), file_size):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreadableError, match="not a directory"):
        read_file(tmp_path / "file" / "below", 1)
