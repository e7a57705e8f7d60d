"""How far the drawing of pictures has come, on stderr: a bar in a terminal, one line elsewhere."""

from collections.abc import Generator, Iterable
from typing import TypeVar

from workbench.terminal import print_error, visible

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, label: str, what: str = "pairs") -> Generator[Item, None, None]:
    """Passes `items` through while showing their number, the rate and the time left (`total` 0: unknown).

    `what` says what is counted.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        size = f" ({total:,} {what})" if total else ""
        print_error(f"{label}{size}")
        yield from items
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(visible(label), total=total or None)
        for done, item in enumerate(items, 1):
            yield item
            if done % 64 == 0:
                bars.update(task, completed=done)
