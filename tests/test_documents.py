"""TOML and JSON within limits: anything beyond is refused in one line, quickly, with little memory."""

import json
import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest

from workbench.documents import (
    LARGEST_INTEGER,
    MOST_JSON_BYTES,
    MOST_LEVELS,
    MOST_TOML_BYTES,
    UnreadableError,
    check_bounds,
    file_size,
    parse_json,
    parse_toml,
    read_file,
    read_json,
    read_json_table,
    read_part,
    read_toml,
)

DEEP = 100_000


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_an_integer_beyond_64_bits_is_refused_whatever_its_length(digits: int) -> None:
    for parse in (lambda: parse_toml(f"a = {'9' * digits}", "x.toml"), lambda: parse_json("9" * digits, "x.json")):
        with pytest.raises(ValueError, match=r"x\.(toml|json)") as caught:
            parse()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200
    assert parse_toml(f"a = {LARGEST_INTEGER}", "x.toml") == {"a": LARGEST_INTEGER}
    assert parse_json(str(-LARGEST_INTEGER), "x.json") == -LARGEST_INTEGER


@pytest.mark.parametrize(
    "text",
    [
        f"a = {'[' * DEEP}{']' * DEEP}",
        f"a = {'{b = ' * 3000}1{'}' * 3000}",
        f"{'.'.join('a' * DEEP)} = 1",
        f"[{'.'.join('a' * DEEP)}]",
        f"a = {'[' * (MOST_LEVELS + 1)}{']' * (MOST_LEVELS + 1)}",
    ],
    ids=["arrays", "inline tables", "dotted key", "table name", "one too many"],
)
def test_toml_that_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"x.toml nests .* more than {MOST_LEVELS} deep"):
        parse_toml(text, "x.toml")


@pytest.mark.parametrize("text", ["[" * DEEP + "]" * DEEP, '{"a":' * 500 + "1" + "}" * 500])
def test_json_that_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"x.json nests .* more than {MOST_LEVELS} deep"):
        parse_json(text, "x.json")


def test_what_is_within_the_bounds_is_read(tmp_path: Path) -> None:
    value: object = 1
    for _ in range(MOST_LEVELS - 1):  # the table itself is a level
        value = [value]
    text = f"a = {value}"
    assert parse_toml(text, "x.toml") == {"a": value}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": value}))
    assert read_json(path) == {"a": value}


@pytest.mark.parametrize("text", ['{"a": {"b": NaN}}', '{"a": {"b": 1e999}}', '{"a": {"b": -Infinity}}'])
def test_a_number_of_json_that_is_not_finite_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"x.json: a\.b is .*(nan|inf)"):
        parse_json(text, "x.json")


@pytest.mark.parametrize(("read", "most"), [(read_toml, MOST_TOML_BYTES), (read_json, MOST_JSON_BYTES)])
def test_a_file_of_gigabytes_is_refused_without_reading_it(tmp_path: Path, read, most: int) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**40)  # sparse: it takes no room on the disk
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(ValueError, match=f"larger than {most:,} bytes"):
        read(path)
    elapsed_s, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * most
    assert elapsed_s < 10


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ValueError, match="named pipe"):
        read_toml(tmp_path / "pipe.toml")


def test_an_error_names_the_wrong_value() -> None:
    with pytest.raises(ValueError, match=r"^x: loss\.fd\.blocks\.1 is an integer that does not fit 64 bits$"):
        check_bounds({"loss": {"fd": {"blocks": [1, 2**63]}}}, "x")


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


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b"\xff", b'{"a": NaN}'])
def test_a_json_table_that_cannot_be_used_is_one_line_with_the_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "some.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"\Acannot read {path} \([^\n]+\): copy it again\Z"):
        read_json_table(path, "copy it again")
    path.write_bytes(b'{"a": 1}')
    assert read_json_table(path, "") == {"a": 1}
