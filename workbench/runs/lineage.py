"""Forks: a run that begins at another's checkpoint, and the history that the two share.

The log of a fork begins with Forked and goes on with what the fork did itself; its past stays in its parent's log.
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
    """A run, and the last step up to which its log tells of the run in question (infinite for that run itself)."""

    run: RunDirectory
    until_step: float


def forked_from(run: RunDirectory) -> Forked | None:
    """What the run was forked from; None for one that began by itself."""
    first = first_events(run.events_file)[:1]
    return first[0] if first and isinstance(first[0], Forked) else None


def lineage(run: RunDirectory) -> list[Past]:
    """The run's ancestors that are still there and can be read, the oldest first, and the run itself."""
    found = [Past(run, math.inf)]
    while (forked := forked_from(found[0].run)) and (parent := _parent(found[0].run, forked)):
        if any(parent == past.run for past in found):  # logs that name each other
            break
        found.insert(0, Past(parent, forked.parent_step))
    return found


def read_history(run: RunDirectory, kinds: Collection[type[Event]] = ()) -> ReadResult:
    """The events of a run that still hold, or only those of ``kinds``: for a fork its parent's up to the fork, then
    its own.

    All are given the run's own name. A parent that is gone or cannot be read leaves a Warned in the place of what it
    said.

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
            events.append(Warned(run=past.run.id, step=int(past.until_step), message=f"its past is lost: {error}"))
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
    """The run's parent beside it; None if it is gone or cannot be read, or another run has its name now."""
    parent = RunDirectory(run.path.parent / Path(forked.parent).name)
    try:
        is_there = parent.id == forked.parent and parent.exists and _began_s(parent) == forked.parent_began_s
    except (OSError, ValueError):
        return None
    return parent if is_there else None


def _began_s(run: RunDirectory) -> float | None:
    """The time of the first line of a run's log, which never changes."""
    first = first_events(run.events_file)[:1]
    return first[0].time_s if first else None


def _lost_past(oldest: RunDirectory) -> Event | None:
    """What is said in the place of the past of a run whose parent is gone."""
    forked = forked_from(oldest)
    if forked is None:
        return None
    message = f"forked from run '{forked.parent}', which is gone: what it did up to step {forked.parent_step} is lost"
    return Warned(run=oldest.id, step=forked.parent_step, time_s=forked.time_s, message=message)


def find_checkpoint(run: RunDirectory, step: int | None = None) -> Path:
    """The run's checkpoint after ``step`` steps, or its newest whole one.

    Raises:
        ValueError: there is none, and which there are; or it is damaged.
    """
    if step is None:
        newest = newest_checkpoint(run)
        if newest is None:
            raise ValueError(f"run {run.id} has no checkpoint yet: wait for one, or resume it")
        return newest
    there = {checkpoint_step(path): path for path in checkpoints(run)}
    if step not in there:
        steps = ", ".join(map(str, sorted(there))) or "none"
        raise ValueError(f"run {run.id} has no checkpoint at step {step}; those it has kept: {steps}")
    read_manifest(there[step])
    return there[step]


def create_fork(parent: RunDirectory, run_id: str, resolved_toml: str, checkpoint: Path) -> RunDirectory:
    """Makes a run beside its parent, whole or not at all, that holds a copy of the checkpoint to begin from.

    Raises:
        ValueError: the id is taken or ill-formed, the folder read-only or full, the checkpoint damaged or just
            removed, or nothing can be read of the parent's log.
    """
    began_s = _began_s(parent)
    if began_s is None:
        raise ValueError(f"the log of run {parent.id} cannot be read, so nothing can be forked from it")
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
        raise ValueError(f"{checkpoint} has just been removed by its run: fork from a later one") from None
    except OSError as error:
        if error.errno in FULL:
            num_bytes = sum(file.stat().st_size for file in checkpoint.iterdir())
            raise DiskFullError(copy.parents[2], num_bytes) from None
        raise
