"""The checkpoints of a run: folders named for their step, whole once their manifest is in place.

A manifest is written last and lists the SHA-256 of every other file, so a torn, truncated or bit-flipped checkpoint is
recognised and the one before it is used.
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
    """Write one checkpoint: all of it, or nothing.

    Raises:
        DiskFullError: there is no room for it.
    """
    final = run.checkpoints / f"step-{step:08d}"
    run.checkpoints.mkdir(exist_ok=True)  # but not the run's folder, which somebody may have deleted
    num_bytes = sum(map(len, files.values()))
    with new_folder(final, num_bytes=num_bytes, replace=True) as folder:
        for name, content in files.items():
            write_atomically(folder / name, content)
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = {"step": step, **facts, "sha256": sums}
        write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return final


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises:
        ValueError: the checkpoint is incomplete or damaged; names the file.
    """
    try:
        manifest: dict[str, Any] = parse_json(read_file(checkpoint / MANIFEST, MOST_MANIFEST_BYTES), MANIFEST)
        sums = {Path(name).name: expected for name, expected in manifest["sha256"].items()}
        if sums != manifest["sha256"]:
            raise ValueError("a file outside of the checkpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{checkpoint} has no readable manifest: it was not finished") from None
    for name, expected in sums.items():
        if _sha256(checkpoint / name) != expected:
            raise ValueError(f"{checkpoint / name} is damaged: its checksum is not the manifest's")
    return manifest


def _sha256(path: Path) -> str:
    digest, offset = hashlib.sha256(), 0
    try:
        while part := read_part(path, offset, PART_BYTES):
            digest.update(part)
            offset += len(part)
    except FileNotFoundError:
        raise ValueError(f"{path.parent} lacks {path.name}") from None
    return digest.hexdigest()


def checkpoints(run: RunDirectory) -> list[Path]:
    """The finished-looking checkpoint folders, newest step first; their content is not checked."""
    named = (path for path in run.checkpoints.glob("step-[0-9]*") if path.name.removeprefix("step-").isdecimal())
    return sorted(named, reverse=True)


def checkpoint_step(checkpoint: Path) -> int:
    """The step that a checkpoint's folder is named for."""
    return int(checkpoint.name.removeprefix("step-"))


def newest_checkpoint(run: RunDirectory) -> Path | None:
    """The newest checkpoint that is whole, or None."""
    for checkpoint in checkpoints(run):
        try:
            read_manifest(checkpoint)
        except ValueError:
            continue
        return checkpoint
    return None


def damaged_checkpoints(run: RunDirectory) -> list[str]:
    """Why each checkpoint that is newer than the newest whole one cannot be used; empty where all is well."""
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
    """Remove every checkpoint but the newest whole one, for a disk that is full; whether there was any to remove."""
    newest = newest_checkpoint(run)
    others = [checkpoint for checkpoint in checkpoints(run) if checkpoint != newest]
    for checkpoint in others:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return bool(others)


def prune_checkpoints(run: RunDirectory, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints."""
    for checkpoint in checkpoints(run)[keep:]:
        shutil.rmtree(checkpoint, ignore_errors=True)
