"""Progress on stderr while data are opened: bars in a terminal, silence elsewhere and for what takes no time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO, TypeVar, cast

Item = TypeVar("Item")

LARGE_BYTES = 1 << 25  # about a second's reading


def with_bar(items: Sequence[Item], label: str, many: int) -> Iterable[Item]:
    """The items, with a bar where they are at least ``many``."""
    if len(items) < many:
        return items
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, label, console=console, transient=True, disable=not console.is_terminal)


def open_with_bar(path: Path, encoding: str, errors: str) -> TextIO:
    """The text file at ``path``, its lines ends as they are, with a bar where it is large."""
    from rich import progress
    from rich.console import Console

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
            description=f"reading {path.name}",
            console=console,
            transient=True,
        ),
    )
