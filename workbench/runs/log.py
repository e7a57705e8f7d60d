"""``events.jsonl``: appending to it, and reading it back whatever a crash or a newer version left there."""

import os
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from workbench.events import Event, RunFinished, RunResumed, StepDone, parse_event

CHUNK_BYTES = 16 * 2**20
END_BYTES = 4 * 2**10
_KIND = re.compile(rb'\{"schema": ?\d+, ?"event": ?"(\w+)"')


class EventLog:
    """The append-only log of one run.

    A line is one write to a file opened for appending, so that two writers' lines never mix. A torn last
    line, a dead writer's or one's own on a full disk, is ended before the next is written. All but StepDone
    are synced to disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._descriptor).st_size
        self._is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def append(self, event: Event) -> None:
        """Writes one line.

        Raises:
            OSError: the disk is full or fails; the lines before are intact, and a later append may succeed.
        """
        line = event.to_line().encode() + b"\n"
        rest = b"\n" + line if self._is_torn else line
        self._is_torn = True
        while rest:  # once, but for a disk that fills up within the line
            rest = rest[os.write(self._descriptor, rest) :]
        self._is_torn = False
        if not isinstance(event, StepDone):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class ReadResult:
    """Events in the order they were written, and how many lines could not be understood."""

    events: list[Event]
    num_skipped: int


def read_events(path: Path, kinds: Collection[type[Event]] = ()) -> ReadResult:
    """Every event of a log, or only those of ``kinds``: much faster where StepDone is not among them.

    Lines that are torn or foreign are counted, never raised; a missing file is an empty log. The result is
    what was written: pass it through ``effective_events`` for what still holds.
    """
    events: list[Event] = []
    offset = num_skipped = 0
    while True:
        found, new_offset, skipped = tail_events(path, offset, kinds, max_bytes=CHUNK_BYTES)
        events += found
        num_skipped += skipped
        if new_offset == offset:
            break
        offset = new_offset
    last = _parse(_read(path, offset, -1), kinds)
    return ReadResult(events + last.events, num_skipped + last.num_skipped)


def tail_events(
    path: Path, from_offset: int, kinds: Collection[type[Event]] = (), *, max_bytes: int = -1
) -> tuple[list[Event], int, int]:
    """The events after a byte offset, the offset to go on from, and how many lines were skipped.

    A last line that is still being written is left for the next call. ``max_bytes`` bounds what one call
    reads, up to the length of a line. A file shorter than the offset has been replaced, and is read from its
    start.
    """
    if from_offset and from_offset > _size(path):
        from_offset = 0
    chunk = _read(path, from_offset, max_bytes)
    if b"\n" not in chunk and len(chunk) == max_bytes:
        chunk = _read(path, from_offset, -1)
    complete = chunk[: chunk.rfind(b"\n") + 1]
    result = _parse(complete, kinds)
    return result.events, from_offset + len(complete), result.num_skipped


def first_events(path: Path) -> list[Event]:
    """The events on the log's first few lines."""
    return tail_events(path, 0, max_bytes=END_BYTES)[0]


def last_events(path: Path) -> list[Event]:
    """The events on the log's last few lines: at least one if the log holds any, at no cost in its length."""
    size = _size(path)
    num_bytes = END_BYTES
    while True:
        events = _parse(_read(path, max(0, size - num_bytes), -1), ()).events
        if events or num_bytes >= size:
            return events
        num_bytes *= 8


def effective_events(events: Iterable[Event]) -> list[Event]:
    """The events that still hold: a RunResumed takes back all beyond its step, and any RunFinished."""
    held: list[Event] = []
    for event in events:
        if isinstance(event, RunResumed):
            held = [old for old in held if old.step <= event.step and not isinstance(old, RunFinished)]
        held.append(event)
    return held


def quiet_s(path: Path, last: list[Event] | None = None) -> float | None:
    """Seconds since the log's last event; None if it holds none. ``last`` are its ``last_events``, if at hand.

    The event's own clock counts, for a copied file is younger than its lines; but where that clock is ahead
    of ours, the file's does.
    """
    events = last_events(path) if last is None else last
    if not events:
        return None
    age_s = time.time() - events[-1].time_s
    return age_s if age_s >= 0 else max(0.0, time.time() - path.stat().st_mtime)


def _parse(lines: bytes, kinds: Collection[type[Event]]) -> ReadResult:
    names = {kind.__name__.encode() for kind in kinds}
    events: list[Event] = []
    num_skipped = 0
    for line in lines.split(b"\n"):
        if not line or line.isspace():
            continue
        if names and (head := _KIND.match(line)) and head[1] not in names and line.endswith((b"}", b"}\r")):
            continue  # whole, as far as can be seen without reading it
        try:
            event = parse_event(line)
        except ValueError:
            num_skipped += 1
            continue
        if not kinds or type(event) in kinds:
            events.append(event)
    return ReadResult(events, num_skipped)


def _read(path: Path, offset: int, num_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(num_bytes)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
