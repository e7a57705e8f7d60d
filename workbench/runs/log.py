"""Appending to ``events.jsonl``, and reading it despite truncated lines and events of newer versions.

A fork's log starts with a Forked event followed by its own events; earlier events stay in its parent's log.
"""

import math
import os
import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workbench.documents import UnreadableError, file_size, read_part
from workbench.events import Event, Forked, RunFinished, RunResumed, StepDone, Warned, parse_event
from workbench.runs.directory import RunDirectory

CHUNK_BYTES = 16 * 2**20
END_BYTES = 4 * 2**10
MOST_LINE_BYTES = 4 * 2**20  # events have hundreds of bytes; a longer line is not an event
MOST_LOG_BYTES = 4 * 10**9  # about ten million events
_KIND = re.compile(rb'\{"schema": ?\d+, ?"event": ?"(\w+)"')


class EventLog:
    """The append-only log of one run.

    Each line is a single write to a file opened with O_APPEND, so that two writers' lines do not interleave. A
    truncated last line (after a crash or on a full disk) is terminated before the next one is written. All events
    except StepDone are fsynced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._descriptor).st_size
        self._is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def append(self, event: Event) -> None:
        """Append one line.

        Raises:
            OSError: the disk is full or fails; earlier lines are intact, and a later append may succeed.
        """
        line = event.to_line().encode() + b"\n"
        rest = b"\n" + line if self._is_torn else line
        self._is_torn = True  # until all of it is written: an error leaves part of a line
        while rest:  # more than once only if the disk fills up within the line
            rest = rest[os.write(self._descriptor, rest) :]
        self._is_torn = False
        if not isinstance(event, StepDone):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class ReadResult:
    """Events in the order they were written, and the number of unreadable lines."""

    events: list[Event]
    num_skipped: int


def read_events(path: Path, kinds: Collection[type[Event]] = ()) -> ReadResult:
    """All events of a log, or only those of ``kinds``: much faster without StepDone.

    Unreadable lines are counted, not raised; a missing file is an empty log. Pass the result through
    ``effective_events`` to drop superseded events.
    """
    events, offset, num_skipped = tail_events(path, 0, kinds)
    last = _parse(_read(path, offset, MOST_LINE_BYTES), kinds)
    return ReadResult(events + last.events, num_skipped + last.num_skipped)


def tail_events(
    path: Path, from_offset: int, kinds: Collection[type[Event]] = (), *, max_bytes: int | None = None
) -> tuple[list[Event], int, int]:
    """(events after a byte offset, offset for the next call, number of unreadable lines).

    A last line that is still being written is left for the next call. ``max_bytes`` limits how much one call
    reads, but at least a line is read. A file shorter than the offset has been replaced and is read from its start.

    Raises:
        UnreadableError: not a regular file, larger than ``MOST_LOG_BYTES``, a line longer than ``MOST_LINE_BYTES``, or
            an I/O error.
    """
    size = _size(path)
    if size > MOST_LOG_BYTES:
        raise UnreadableError(path, f"it has {size:,} bytes, more than the {MOST_LOG_BYTES:,} of the longest log")
    if from_offset > size:  # a new run of the same name
        from_offset = 0
    events: list[Event] = []
    num_skipped = 0
    while complete := _lines(path, from_offset, max_bytes or CHUNK_BYTES):
        part = _parse(complete, kinds)
        events += part.events
        num_skipped += part.num_skipped
        from_offset += len(complete)
        if max_bytes is not None:
            break
    return events, from_offset, num_skipped


def _lines(path: Path, offset: int, num_bytes: int) -> bytes:
    """The complete lines in the next ``num_bytes``, or the next line if it is longer; empty if none is complete."""
    chunk = _read(path, offset, num_bytes)
    if b"\n" not in chunk and len(chunk) == num_bytes:
        chunk = _read(path, offset, max(num_bytes, MOST_LINE_BYTES + 1))
    complete = chunk[: chunk.rfind(b"\n") + 1]
    if not complete and len(chunk) > MOST_LINE_BYTES:
        raise UnreadableError(path, f"the line at byte {offset:,} is longer than {MOST_LINE_BYTES:,} bytes")
    return complete


def first_events(path: Path) -> list[Event]:
    """The events on the log's first few lines."""
    return tail_events(path, 0, max_bytes=END_BYTES)[0]


def last_events(path: Path, of: type[Event] = Event) -> list[Event]:
    """The events on the log's last few lines: at least one of type ``of`` if there is any.

    The time does not depend on the log's length. Evaluations and gradients can be many lines at the end of a run, so
    that the last step is further back; one more than ``2 * MOST_LINE_BYTES`` from the end is not found.

    Raises:
        UnreadableError: not a regular file, no event in the last ``2 * MOST_LINE_BYTES``, or an I/O error.
    """
    size = _size(path)
    num_bytes = END_BYTES
    while True:
        # END_BYTES more, for lines that were written since the size was read.
        events = _parse(_read(path, max(0, size - num_bytes), num_bytes + END_BYTES), ()).events
        if num_bytes >= size or any(isinstance(event, of) for event in events):
            return events
        if num_bytes > 2 * MOST_LINE_BYTES:
            if events:
                return events
            raise UnreadableError(path, f"its last {num_bytes:,} bytes hold no event")
        num_bytes *= 8


def effective_events(events: Iterable[Event]) -> list[Event]:
    """The events without superseded ones: a RunResumed drops those of later steps, and any RunFinished."""
    held: list[Event] = []
    for event in events:
        if isinstance(event, RunResumed):
            held = [old for old in held if old.step <= event.step and not isinstance(old, RunFinished)]
        held.append(event)
    return held


def quiet_s(path: Path, last: list[Event] | None = None) -> float | None:
    """Seconds since the log's last event; None if there is none. ``last``: its ``last_events``, if known.

    Uses the event's time, since a copied file is newer than its lines; if that is in the future (clocks differ), the
    file's modification time.
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
            continue  # complete, as far as can be seen without parsing
        try:
            event = parse_event(line)
        except ValueError:
            num_skipped += 1
            continue
        if not kinds or type(event) in kinds:
            events.append(event)
    return ReadResult(events, num_skipped)


# A run that has not started has no log yet.
def _read(path: Path, offset: int, num_bytes: int) -> bytes:
    with suppress(FileNotFoundError):
        return read_part(path, offset, num_bytes)
    return b""


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return file_size(path)
    return 0


@dataclass(frozen=True)
class Past:
    """An ancestor run, and the last step of its log that belongs to the history (infinite for the run itself)."""

    run: RunDirectory
    until_step: float


def forked_from(run: RunDirectory) -> Forked | None:
    """The Forked event of a fork; None for a run that is not a fork."""
    first = first_events(run.events_file)[:1]
    return first[0] if first and isinstance(first[0], Forked) else None


def lineage(run: RunDirectory) -> list[Past]:
    """The run's readable ancestors, oldest first, and the run itself."""
    pasts = [Past(run, math.inf)]
    while (forked := forked_from(pasts[0].run)) and (parent := _parent(pasts[0].run, forked)):
        if any(parent == past.run for past in pasts):  # a cycle of logs that name each other
            break
        pasts.insert(0, Past(parent, forked.parent_step))
    return pasts


def read_history(run: RunDirectory, kinds: Collection[type[Event]] = ()) -> ReadResult:
    """The effective events of a run, or only those of ``kinds``; for a fork, its ancestors' up to each fork first.

    All get the run's own id. A missing or unreadable parent is replaced by a Warned event.

    Raises:
        UnreadableError: the run's own log cannot be read within bounds.
    """
    pasts = lineage(run)
    num_skipped = 0
    events: list[Event] = []
    if lost := forked_from(pasts[0].run):
        message = f"forked from run '{lost.parent}', which is missing: its history to step {lost.parent_step} is lost"
        events.append(Warned(run=run.id, step=lost.parent_step, time_s=lost.time_s, message=message))
    for past in pasts:
        is_own = past.run == run
        try:
            # A RunResumed decides which of the other events count.
            part = read_events(past.run.events_file, {*kinds, RunResumed} if kinds else ())
        except UnreadableError as error:
            if is_own:
                raise
            events.append(Warned(run=past.run.id, step=int(past.until_step), message=f"its history is lost: {error}"))
            continue
        num_skipped += part.num_skipped
        events += [
            event
            for event in effective_events(part.events)
            if is_own or (event.step <= past.until_step and not isinstance(event, RunFinished))
        ]
    wanted = [event for event in events if not kinds or type(event) in kinds]
    own = [event if event.run == run.id else event.model_copy(update={"run": run.id}) for event in wanted]
    return ReadResult(own, num_skipped)


def _parent(run: RunDirectory, forked: Forked) -> RunDirectory | None:
    """The run's parent in the same folder; None if missing, unreadable, or replaced by another run of that name."""
    parent = RunDirectory(run.path.parent / Path(forked.parent).name)
    try:
        is_there = parent.id == forked.parent and parent.exists and began_s(parent) == forked.parent_began_s
    except (OSError, ValueError):
        return None
    return parent if is_there else None


def began_s(run: RunDirectory) -> float | None:
    """The time of the first event of a run's log, which never changes."""
    first = first_events(run.events_file)[:1]
    return first[0].time_s if first else None
