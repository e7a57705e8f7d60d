"""Forks: runs that start from another run's checkpoint, and their shared history.

A fork's log starts with a Forked event followed by its own events; earlier events stay in its parent's log.
"""

import math
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from workbench.documents import UnreadableError
from workbench.events import Event, Forked, RunFinished, RunResumed, Warned
from workbench.files import FULL, DiskFullError
from workbench.runs.checkpoints import checkpoint_step, checkpoints, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog, ReadResult, effective_events, first_events, read_events


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
    found = [Past(run, math.inf)]
    while (forked := forked_from(found[0].run)) and (parent := _parent(found[0].run, forked)):
        if any(parent == past.run for past in found):  # a cycle of logs that name each other
            break
        found.insert(0, Past(parent, forked.parent_step))
    return found


def read_history(run: RunDirectory, kinds: Collection[type[Event]] = ()) -> ReadResult:
    """The effective events of a run, or only those of ``kinds``; for a fork, its ancestors' up to each fork first.

    All get the run's own id. A missing or unreadable parent is replaced by a Warned event.

    Raises:
        UnreadableError: the run's own log cannot be read within bounds.
    """
    pasts = lineage(run)
    num_skipped = 0
    events = [lost] if (lost := _lost_past(pasts[0].run)) else []
    for past in pasts:
        is_own = past.run == run
        try:
            found = read_events(past.run.events_file, {*kinds, RunResumed} if kinds else ())
        except UnreadableError as error:
            if is_own:
                raise
            events.append(Warned(run=past.run.id, step=int(past.until_step), message=f"its history is lost: {error}"))
            continue
        num_skipped += found.num_skipped
        events += [
            event
            for event in effective_events(found.events)
            if is_own or (event.step <= past.until_step and not isinstance(event, RunFinished))
        ]
    return ReadResult(
        [
            event if event.run == run.id else event.model_copy(update={"run": run.id})
            for event in events
            if not kinds or type(event) in kinds
        ],
        num_skipped,
    )


def _parent(run: RunDirectory, forked: Forked) -> RunDirectory | None:
    """The run's parent in the same folder; None if missing, unreadable, or replaced by another run of that name."""
    parent = RunDirectory(run.path.parent / Path(forked.parent).name)
    try:
        is_there = parent.id == forked.parent and parent.exists and _began_s(parent) == forked.parent_began_s
    except (OSError, ValueError):
        return None
    return parent if is_there else None


def _began_s(run: RunDirectory) -> float | None:
    """The time of the first event of a run's log, which never changes."""
    first = first_events(run.events_file)[:1]
    return first[0].time_s if first else None


def _lost_past(oldest: RunDirectory) -> Event | None:
    """The warning that replaces the history of a fork whose parent is missing."""
    forked = forked_from(oldest)
    if forked is None:
        return None
    message = f"forked from run '{forked.parent}', which is missing: its history to step {forked.parent_step} is lost"
    return Warned(run=oldest.id, step=forked.parent_step, time_s=forked.time_s, message=message)


class CheckpointRemovedError(ValueError):
    """A running run replaced this checkpoint by a newer one before it was copied."""


def find_checkpoint(run: RunDirectory, step: int | None = None) -> Path:
    """The run's checkpoint after ``step`` steps, or its latest intact one.

    Raises:
        ValueError: there is none (the message lists the available ones), or it is damaged.
    """
    if step is None:
        newest = newest_checkpoint(run)
        if newest is None:
            raise ValueError(f"run {run.id} has no checkpoint yet: wait for one, or resume it")
        return newest
    there = {checkpoint_step(path): path for path in checkpoints(run)}
    if step not in there:
        steps = ", ".join(map(str, sorted(there))) or "none"
        raise ValueError(f"run {run.id} has no checkpoint at step {step}; available: {steps}")
    read_manifest(there[step])
    return there[step]


def create_fork(parent: RunDirectory, run_id: str, resolved_toml: str, checkpoint: Path) -> RunDirectory:
    """Atomically create a run in its parent's folder, with a copy of the checkpoint to start from.

    Raises:
        ValueError: the id is taken or invalid, the folder is read-only or full, the checkpoint is damaged, or the
            parent's log cannot be read.
        CheckpointRemovedError: the parent has just removed the checkpoint.
    """
    began_s = _began_s(parent)
    if began_s is None:
        raise ValueError(f"the log of run {parent.id} cannot be read, so it cannot be forked")
    step = checkpoint_step(checkpoint)
    forked = Forked(run=run_id, step=step, parent=parent.id, parent_step=step, parent_began_s=began_s)

    def begin(run: RunDirectory) -> None:
        _copy(checkpoint, run.checkpoints / checkpoint.name)
        read_manifest(run.checkpoints / checkpoint.name)
        with EventLog(run.events_file) as log:
            log.append(forked)

    return create_run(parent.path.parent, run_id, resolved_toml, begin)


def _copy(checkpoint: Path, copy: Path) -> None:
    copy.mkdir()
    try:
        for file in checkpoint.iterdir():
            shutil.copyfile(file, copy / file.name)
    except FileNotFoundError:
        raise CheckpointRemovedError(f"{checkpoint} was just removed by its run: fork from a later one") from None
    except OSError as error:
        if error.errno in FULL:
            num_bytes = sum(file.stat().st_size for file in checkpoint.iterdir())
            raise DiskFullError(copy.parents[2], num_bytes) from None
        raise
