"""Messages for people, of one line without control characters, and a stderr that survives a full disk."""

import difflib
import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Names, captions and messages may come from someone else's run folder or shard. Control characters in them could move
# the cursor, set the window's title or fill the clipboard; direction marks could show another text than there is.

# Unprintable in Unicode's categories, but harmless: other spaces, and the joiners of emoji and of scripts.
HARMLESS = frozenset("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}\u200c\u200d")
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with unprintable characters escaped, such as \x1b or \u202e.

    Args:
        lines: keep line breaks, as in a message of several lines.
    """
    if text.isprintable():
        return text
    kept = HARMLESS | {"\n"} if lines else HARMLESS
    return "".join(one if one.isprintable() or one in kept else _escape(one) for one in text)


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8; Python reads other bytes as surrogates."""
    return not any("\ud800" <= one <= "\udfff" for one in name)


def print_error(text: str) -> None:
    """Print a line to stderr."""
    print(visible(text, lines=True), file=sys.stderr)


def _escape(character: str) -> str:
    code = ord(character)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return SHORT.get(character, f"\\{letter}{code:0{width}x}")


DROPPED = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # write errors that lose a message, not the run


class _LossyStream:
    """A stream that drops text it cannot write, and reports that once it can write again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_lost = False

    def write(self, text: str) -> int:
        with self._dropping():
            if self._has_lost:
                self._stream.write("workbench: messages are missing before this one: the disk under them was full\n")
                self._stream.flush()
                self._has_lost = False
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in DROPPED:
                raise
            self._has_lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """While the block runs, stderr drops text it cannot write instead of raising."""
    before = sys.stderr
    sys.stderr = _LossyStream(before)
    try:
        yield
    finally:
        sys.stderr = before


MAX_LISTED = 20
MAX_SHOWN = 80
MAX_NAME = 300  # characters of an unknown name: long enough for a path


def truncated(text: str, most: int = MAX_SHOWN) -> str:
    """The text, cut at ``most`` characters for a message of one line."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown(kind: str, name: str, choices: Iterable[str]) -> ValueError:
    """The error for an unknown ``name``: suggests the nearest choice, or lists all.

    >>> unknown("loss", "icll", ["icl", "fd"])
    ValueError("unknown loss 'icll': did you mean 'icl'?")
    """
    name, known = truncated(name, MAX_NAME), sorted(map(visible, choices))
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "")
    remedy = f"did you mean '{close[0]}'?" if close else f"choose one of: {listed}"
    return ValueError(f"unknown {kind} '{visible(name)}': {remedy}")


def reason(error: BaseException) -> str:
    """The first line of an error's message; its type if it has none. A KeyError's message is only the key."""
    lines = str(error).splitlines()
    if not lines or isinstance(error, KeyError):
        return " ".join([type(error).__name__, *lines[:1]])
    return lines[0]


@contextmanager
def set_by(setting: str) -> Iterator[None]:
    """Add to the first line of an error which setting to change."""
    try:
        yield
    except ValueError as error:
        line, newline, table = str(error).partition("\n")
        end = ":" if table else ""
        raise ValueError(
            f"{line.removesuffix(end)}; name another with --set {setting}=SPEC{end}{newline}{table}"
        ) from None
