"""How far the drawing of samples has come, on stderr; a log gets a line at the start, too."""

from collections.abc import Generator, Iterable
from typing import TypeVar

from workbench.progress import is_terminal, phase
from workbench.terminal import print_error

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, label: str, what: str = "pairs") -> Generator[Item, None, None]:
    """Passes `items` through while showing how many are done (`total` 0: unknown).

    `what` says what is counted.
    """
    if not is_terminal():
        size = f" ({total:,} {what})" if total else ""
        print_error(f"{label}{size}")
    with phase(label, total) as shown:
        for item in items:
            yield item
            shown.advance()
