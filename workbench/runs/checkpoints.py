"""The checkpoints of a run (one folder per step, complete once its manifest exists), and forks, which start from one.

The manifest is written last and lists the SHA-256 of every other file, so that a truncated or corrupted checkpoint is
detected and the one before it is used.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.documents import parse_json, read_file, read_part
from workbench.events import Forked
from workbench.files import FULL, DiskFullError, new_folder, write_atomically
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog, began_s

MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 16 * 2**20
PART_BYTES = 16 * 2**20


def write_checkpoint(run: RunDirectory, step: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint atomically.

    Raises:
        DiskFullError: there is not enough space.
    """
    final = run.checkpoints / f"step-{step:08d}"
    run.checkpoints.mkdir(exist_ok=True)  # without parents: a deleted run folder must not come back
    num_bytes = sum(map(len, files.values()))
    with new_folder(final, num_bytes=num_bytes, replace=True) as folder:
        for name, content in files.items():
            write_atomically(folder / name, content)
        # The manifest comes last: without it, readers treat the checkpoint as unfinished.
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = {"step": step, **facts, "sha256": sums}
        write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return final


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, after checking every file's checksum.

    Raises:
        ValueError: the checkpoint is incomplete or damaged; the message names the file.
    """
    try:
        manifest: dict[str, Any] = parse_json(read_file(checkpoint / MANIFEST, MOST_MANIFEST_BYTES), MANIFEST)
        sums = {Path(name).name: expected for name, expected in manifest["sha256"].items()}
        if sums != manifest["sha256"]:
            raise ValueError("a file outside of the checkpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{checkpoint} has no readable manifest: writing it was interrupted") from None
    for name, expected in sums.items():
        if _sha256(checkpoint / name) != expected:
            raise ValueError(f"{checkpoint / name} is damaged: its checksum differs from the manifest")
    return manifest


def _sha256(path: Path) -> str:
    digest, offset = hashlib.sha256(), 0
    try:
        while part := read_part(path, offset, PART_BYTES):
            digest.update(part)
            offset += len(part)
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing in {path.parent}") from None
    return digest.hexdigest()


def checkpoints(run: RunDirectory) -> list[Path]:
    """The checkpoint folders, latest step first; their content is not checked."""
    named = (path for path in run.checkpoints.glob("step-[0-9]*") if path.name.removeprefix("step-").isdecimal())
    return sorted(named, reverse=True)


def checkpoint_step(checkpoint: Path) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix("step-"))


def newest_checkpoint(run: RunDirectory) -> Path | None:
    """The latest intact checkpoint, or None."""
    return _newest(run)[0]


def damaged_checkpoints(run: RunDirectory) -> list[str]:
    """The errors of the checkpoints later than the latest intact one."""
    return _newest(run)[1]


def _newest(run: RunDirectory) -> tuple[Path | None, list[str]]:
    errors: list[str] = []
    for checkpoint in checkpoints(run):
        try:
            read_manifest(checkpoint)
        except ValueError as error:
            errors.append(str(error))
        else:
            return checkpoint, errors
    return None, errors


def make_room(run: RunDirectory) -> bool:
    """Remove all checkpoints except the latest intact one (on a full disk); returns whether any was removed."""
    newest = newest_checkpoint(run)
    others = [checkpoint for checkpoint in checkpoints(run) if checkpoint != newest]
    for checkpoint in others:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return bool(others)


def prune_checkpoints(run: RunDirectory, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints."""
    for checkpoint in checkpoints(run)[keep:]:
        shutil.rmtree(checkpoint, ignore_errors=True)


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
    by_step = {checkpoint_step(path): path for path in checkpoints(run)}
    if step not in by_step:
        steps = ", ".join(map(str, sorted(by_step))) or "none"
        raise ValueError(f"run {run.id} has no checkpoint at step {step}; available: {steps}")
    read_manifest(by_step[step])
    return by_step[step]


def create_fork(parent: RunDirectory, run_id: str, resolved_toml: str, checkpoint: Path) -> RunDirectory:
    """Atomically create a run in its parent's folder, with a copy of the checkpoint to start from.

    Raises:
        ValueError: the id is taken or invalid, the folder is read-only or full, the checkpoint is damaged, or the
            parent's log cannot be read.
        CheckpointRemovedError: the parent has just removed the checkpoint.
    """
    began = began_s(parent)
    if began is None:
        raise ValueError(f"the log of run {parent.id} cannot be read, so it cannot be forked")
    step = checkpoint_step(checkpoint)
    forked = Forked(run=run_id, step=step, parent=parent.id, parent_step=step, parent_began_s=began)

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
