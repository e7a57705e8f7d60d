"""Safe reading of files that anyone may have written: plain files, TOML and JSON, within limits.

Opening a named pipe blocks, reading a device never ends, and a sparse file of terabytes fills the memory. So only
regular files up to a maximum size are read. Integers beyond 64 bits and deep nesting are refused.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import truncated, visible

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(ValueError):
    """A file that cannot be read within the limits; the message has the path and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read {visible(str(path))}: {reason}")


def read_file(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        FileNotFoundError: no such file.
        UnreadableError: not a regular file, larger than ``most_bytes``, or not readable.
    """
    content = read_part(path, 0, most_bytes + 1)  # one more, to notice a longer file without reading all of it
    if len(content) > most_bytes:
        raise UnreadableError(path, f"larger than {most_bytes:,} bytes")
    return content


def read_part(path: Path, offset: int, num_bytes: int) -> bytes:
    """At most ``num_bytes`` of a regular file from a byte offset; fewer at its end.

    Raises:
        FileNotFoundError: no such file.
        UnreadableError: not a regular file, or not readable.
    """
    file_size(path)  # checks the kind first: just opening a pipe or a device may block
    with _explained(path):
        # O_NONBLOCK, in case a pipe has replaced the file since.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_plain(path, os.fstat(descriptor).st_mode)
            file.seek(offset)
            return file.read(num_bytes)


def file_size(path: Path) -> int:
    """The size of a regular file in bytes.

    Raises:
        FileNotFoundError: no such file.
        UnreadableError: not a regular file, or not readable.
    """
    with _explained(path):
        status = path.stat()
    _check_plain(path, status.st_mode)
    return status.st_size


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, (error.strerror or str(error)).lower()) from None


def _check_plain(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
        raise UnreadableError(path, f"it is {kind}, not a file")


MIB = 2**20
MOST_TOML_BYTES = MIB  # the largest run.toml has 10 kB
MOST_JSON_BYTES = 64 * MIB  # the largest tokenizer of open_clip has 17
MOST_LEVELS = 64  # far below Python's recursion limit, since merging and dumping recurse
LARGEST_INTEGER = 2**63 - 1
# tomllib needs time and memory quadratic in the number of parts of a dotted key.
LONG_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MOST_LEVELS}}}""")

Table = dict[str, Any]


def read_toml(path: Path) -> Table:
    """The table in a TOML file.

    Raises:
        ValueError: the file is missing, is not TOML (with the line), or exceeds the limits.
    """
    try:
        return parse_toml(read_file(path, MOST_TOML_BYTES).decode(), str(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def parse_toml(text: str, name: str) -> Table:
    """The table in a TOML text; ``name`` is its name in errors.

    Raises:
        TOMLDecodeError: not TOML.
        ValueError: beyond the limits.
    """
    if LONG_KEY.search(text):
        raise too_deep(name)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise too_deep(name) from None
    except ValueError:  # an integer with more digits than sys.get_int_max_str_digits()
        raise ValueError(f"{name} holds an integer that does not fit 64 bits") from None
    check_bounds(table, name)
    return table


def read_json(path: Path) -> Any:
    """The content of a JSON file: finite numbers, strings, lists and tables.

    Raises:
        OSError: the file cannot be read.
        ValueError: not JSON, beyond the limits, or with a number that is not finite.
    """
    return parse_json(read_file(path, MOST_JSON_BYTES), path.name)


def read_json_table(path: Path, remedy: str) -> Table:
    """The table in a JSON file.

    Args:
        remedy: what to do about a file that cannot be used, for the error.

    Raises:
        ValueError: in one line: the file cannot be read, is not JSON, or holds something else than a table.
    """
    try:
        table = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} ({getattr(error, 'strerror', None) or error}): {remedy}") from None
    if not isinstance(table, dict):
        raise ValueError(f"cannot read {path} (it holds no table): {remedy}")
    return table


def parse_json(content: bytes | str, name: str) -> Any:
    """The content of a JSON text; ``name`` is its name in errors."""
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise too_deep(name) from None
    except ValueError as error:  # an integer with too many digits, or bytes that are not UTF-8
        raise ValueError(f"{name}: {str(error).partition(';')[0]}") from None
    check_bounds(document, name, finite=True)
    return document


def check_bounds(value: Any, name: str, *, finite: bool = False) -> None:
    """Refuse integers beyond 64 bits and deep nesting.

    Args:
        finite: also refuse nan and inf.

    Raises:
        ValueError: with the dotted path within ``value``.
    """
    # A stack instead of recursion: the nesting that is to be refused would exceed Python's limit.
    waiting: list[tuple[Any, str, int]] = [(value, "", 1)]
    while waiting:
        item, path, level = waiting.pop()
        if isinstance(item, dict | list | tuple):
            if level > MOST_LEVELS:
                raise too_deep(name)
            inner = item.items() if isinstance(item, dict) else enumerate(item)
            waiting.extend((child, f"{path}.{key}" if path else str(key), level + 1) for key, child in inner)
        elif isinstance(item, int) and not -LARGEST_INTEGER - 1 <= item <= LARGEST_INTEGER:
            raise ValueError(f"{name}: {truncated(path) or 'the value'} is an integer that does not fit 64 bits")
        elif finite and isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{name}: {truncated(path) or 'the value'} is {item}, which is not a finite number")


def strict_numbers(value: Any) -> Any:
    """The value with "NaN", "Infinity" and "-Infinity" for numbers that JSON cannot represent, as in logs."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: strict_numbers(one) for key, one in value.items()}
    return [strict_numbers(one) for one in value] if isinstance(value, list | tuple) else value


def finite(value: Any) -> Any:
    """The value of a setting unchanged, refused if it is or holds nan or inf: TOML allows these, settings do not."""
    held = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else ()
    for inner in held:
        finite(inner)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number (got {value})")
    return value


def too_deep(name: str) -> ValueError:
    """The error for tables or arrays nested more than ``MOST_LEVELS`` deep."""
    return ValueError(f"{name} nests tables or arrays more than {MOST_LEVELS} deep: flatten it")
