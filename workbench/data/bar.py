"""Progress on stderr while data are opened, and silence for what takes no time."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar, cast

from workbench.data.samples.progress import progress
from workbench.progress import track
from workbench.terminal import print_error, visible

Item = TypeVar("Item")

LARGE_BYTES = 1 << 25  # about a second's reading


def with_bar(items: Sequence[Item], label: str, many: int) -> Iterable[Item]:
    """The items, with progress where they are at least ``many``."""
    return items if len(items) < many else track(items, label, len(items))


def announced(items: Iterable[Item], total: int, doing: str, details: str, what: str = "pairs") -> Iterator[Item]:
    """The items after a line that says what is done with them, in a terminal with a bar that fits a narrow one."""
    if not sys.stderr.isatty():
        return progress(items, total, f"{doing} {details}", what)
    print_error(f"{doing} {details}")
    return progress(items, total, doing, what)


def open_with_bar(path: Path, encoding: str, errors: str) -> TextIO:
    """The text file at ``path``, its lines ends as they are, with a bar where it is large."""
    from rich import progress
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if path.stat().st_size < LARGE_BYTES or not console.is_terminal:
        return path.open(encoding=encoding, errors=errors, newline="")
    return cast(
        TextIO,
        progress.open(
            path,
            "r",
            encoding=encoding,
            errors=errors,
            newline="",
            description=f"reading {escape(visible(path.name))}",
            console=console,
            transient=True,
        ),
    )
