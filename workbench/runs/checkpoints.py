"""The checkpoints of a run: one folder per step, complete once its manifest exists.

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
from workbench.files import new_folder, write_atomically
from workbench.runs.directory import RunDirectory

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
    for checkpoint in checkpoints(run):
        try:
            read_manifest(checkpoint)
        except ValueError:
            continue
        return checkpoint
    return None


def damaged_checkpoints(run: RunDirectory) -> list[str]:
    """The errors of the checkpoints later than the latest intact one."""
    reasons: list[str] = []
    for checkpoint in checkpoints(run):
        try:
            read_manifest(checkpoint)
        except ValueError as error:
            reasons.append(str(error))
        else:
            break
    return reasons


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
