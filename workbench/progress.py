"""Progress of long work on stderr: bars in a terminal, elsewhere a line every ten seconds.

Code reports its work with :func:`phase` or :func:`track`, at any depth. Work under half a second shows nothing.
"""

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from workbench.errors import print_error, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")

BAR_AFTER_S = 0.5
LINE_EVERY_S = 10.0
PAUSE_S = 1.0  # phases with shorter pauses between them count as one piece of work


class Phase:
    """A running piece of work. ``total`` is the number of items, 0 if unknown."""

    def __init__(self, label: str, total: int = 0) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self.started_s = time.monotonic()

    def advance(self, number: int = 1) -> None:
        """Count items as done."""
        self.done += number
        _reporter.update(self)

    @property
    def count(self) -> str:
        """Items done and in total, as text; empty if the total is unknown."""
        return f"{self.done:,}/{self.total:,}" if self.total else ""

    def __str__(self) -> str:
        doing = f"{self.label} {self.count}".rstrip()
        return f"{doing}, {time.monotonic() - self.started_s:.0f} s"


@contextmanager
def phase(label: str, total: int = 0) -> Iterator[Phase]:
    """Report work while the block runs.

    Args:
        label: names the work, such as "encoding test images".
        total: number of items; 0 if unknown.
    """
    one = Phase(label, total)
    _reporter.begin(one)
    try:
        yield one
    finally:
        _reporter.end(one)


def track(items: Iterable[Item], label: str, total: int = 0) -> Generator[Item, None, None]:
    """Pass the items on; each is counted when the next one is asked for."""
    with phase(label, total) as one:
        for item in items:
            yield item
            one.advance()


@contextmanager
def hosted(bars: "Progress", **fields: Any) -> Iterator[None]:
    """While the block runs, show phases as rows of these bars.

    Args:
        bars: already started; two live displays in one terminal would overwrite each other.
        fields: values for the columns of ``bars`` in such a row.
    """
    before = _reporter.host
    _reporter.host = (bars, fields)
    try:
        yield
    finally:
        _reporter.host = before


class _Reporter:
    """Shows the open phases. A thread redraws, since the work itself may report nothing for a long time."""

    def __init__(self) -> None:
        self.host: tuple[Progress, dict[str, Any]] | None = None
        self._open: list[Phase] = []
        self._rows: dict[Phase, tuple[Progress, TaskID]] = {}
        self._own_bars: Progress | None = None
        self._is_terminal: bool | None = None  # None: not checked yet
        self._lock = threading.RLock()
        self._idle = threading.Event()
        self._busy_since_s = self._idle_since_s = self._printed_s = float("-inf")

    def begin(self, one: Phase) -> None:
        with self._lock:
            now_s = time.monotonic()
            # Many short phases in a row take as long as one long phase, and are shown like it.
            if not self._open and now_s - self._idle_since_s > PAUSE_S:
                self._busy_since_s = now_s
            self._open.append(one)
            if len(self._open) == 1:
                self._is_terminal = None  # check again: stderr may have been redirected
                self._idle = threading.Event()
                threading.Thread(target=self._watch, args=(self._idle,), daemon=True).start()

    def update(self, one: Phase) -> None:
        with self._lock:
            self._show()
            if one in self._rows:
                bars, row = self._rows[one]
                bars.update(row, completed=one.done, count=one.count)

    def end(self, one: Phase) -> None:
        with self._lock:
            self._open.remove(one)
            if one in self._rows:
                bars, row = self._rows.pop(one)
                with suppress(KeyError):
                    bars.remove_task(row)
            if self._open:
                return
            self._idle.set()
            self._idle_since_s = time.monotonic()
            if self._own_bars is not None:
                self._own_bars.stop()
                self._own_bars = None

    def _watch(self, idle: threading.Event) -> None:
        while not idle.wait(max(0.01, min(BAR_AFTER_S, LINE_EVERY_S) / 2)):
            with self._lock:
                if not idle.is_set():
                    self._show()

    def _show(self) -> None:
        """Update the bars, or print a line if one is due."""
        now_s = time.monotonic()
        if now_s - self._busy_since_s < BAR_AFTER_S:
            return
        if self._is_terminal is None:
            self._is_terminal = is_terminal()
        if self.host is None and not self._is_terminal:
            if self._open and now_s - max(self._busy_since_s, self._printed_s) >= LINE_EVERY_S:
                self._printed_s = now_s
                print_error(str(self._open[-1]))
            return
        bars, fields = self.host or (self._bars(), {})
        for one in self._open:
            if one not in self._rows:
                label = one.label.removeprefix("encoding ") if self.host else one.label  # the host's rows are narrow
                columns = fields | {"count": one.count}
                self._rows[one] = bars, bars.add_task(label, total=one.total or None, completed=one.done, **columns)

    def _bars(self) -> "Progress":
        if self._own_bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(20),
                TextColumn("{task.fields[count]}"),
            )
            console = Console(stderr=True, highlight=False)
            self._own_bars = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._own_bars.start()
        return self._own_bars


def is_terminal() -> bool:
    """Whether stderr is a terminal."""
    from rich.console import Console

    return Console(stderr=True).is_terminal


_reporter = _Reporter()


def progress(
    items: Iterable[Item], total: int, label: str, what: str = "pairs", details: str = ""
) -> Generator[Item, None, None]:
    """Pass the items on with progress; outside a terminal also a line at the start.

    Args:
        total: number of items; 0 if unknown.
        what: the unit of the items.
        details: for a line at the start, also in a terminal, whose bar has no room for them.
    """
    if is_terminal():
        if details:
            print_error(f"{label} {details}")
    else:
        label = f"{label} {details}".rstrip()
        print_error(f"{label} ({total:,} {what})" if total else label)
    return track(items, label, total)


LARGE_BYTES = 1 << 25  # takes about a second to read


def with_bar(items: Sequence[Item], label: str, many: int) -> Iterable[Item]:
    """The items, with progress if there are at least ``many``."""
    return items if len(items) < many else track(items, label, len(items))


def open_with_bar(path: Path, encoding: str, newline: str, errors: str) -> AbstractContextManager[TextIO]:
    """Open a text file, whose lines end with ``newline``, unchanged; with a progress bar if it is large."""
    from rich import progress
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if path.stat().st_size < LARGE_BYTES or not console.is_terminal:
        return path.open(encoding=encoding, errors=errors, newline=newline)
    what = f"reading {escape(visible(path.name))}"
    return progress.open(path, "r", -1, encoding, errors, newline, description=what, console=console, transient=True)
