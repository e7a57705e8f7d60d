"""TOML and JSON within bounds: what lies beyond is one line, soon, and in little memory."""

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest

from workbench.documents import (
    LARGEST_INTEGER,
    MOST_JSON_BYTES,
    MOST_LEVELS,
    MOST_TOML_BYTES,
    check_bounds,
    parse_json,
    parse_toml,
    read_json,
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


def test_where_a_value_is_wrong_is_said() -> None:
    with pytest.raises(ValueError, match=r"^x: loss\.fd\.blocks\.1 is an integer that does not fit 64 bits$"):
        check_bounds({"loss": {"fd": {"blocks": [1, 2**63]}}}, "x")
