"""What a run measured of itself now and then, a file a step in ``snapshots/``: the part that all kinds share.

A file is named ``KIND-STEP.safetensors``; its metadata are strings, JSON where they are more than a word.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.documents import parse_json
from workbench.files import write_atomically
from workbench.reading import UnreadableError, file_size
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import lineage
from workbench.runs.liveness import run_status

SCHEMA = "1"
MOST_BYTES = 64 * 2**20
NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
Arrays = Mapping[str, NDArray[Any]]
Metadata = Mapping[str, str]
Snapshot = TypeVar("Snapshot")


def write_snapshot(run: RunDirectory, kind: str, step: int, arrays: Arrays, metadata: Metadata) -> Path:
    """Write one snapshot, in place of any of the same kind and step.

    Raises:
        ValueError: an array is not finite.
        OSError: it cannot be written; what was there before is intact.
    """
    from safetensors.numpy import save

    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"the {kind} after step {step} are not finite")
    path = run.snapshots / f"{kind}-{step:08d}.safetensors"
    run.snapshots.mkdir(exist_ok=True)
    write_atomically(path, save(dict(arrays), {"schema": SCHEMA, **metadata}))
    return path


def read_snapshots(
    run: RunDirectory, kind: str, understand: Callable[[int, Arrays, Metadata], Snapshot], until_step: float = math.inf
) -> tuple[list[Snapshot], int]:
    """The snapshots of a kind up to a step, in the order of their steps, and how many files were torn or foreign.

    Args:
        understand: makes a snapshot of (step, arrays, metadata). Any of ``NOT_OURS``: it is none.
    """
    found: dict[int, Snapshot] = {}
    num_skipped = 0
    for path in run.snapshots.glob(f"{kind}-*"):
        try:
            step = _step(path, kind)
            if step <= until_step:
                found[step] = understand(step, *_read(path))
        except NOT_OURS:
            num_skipped += 1
    return [found[step] for step in sorted(found)], num_skipped


def read_snapshot_history(
    run: RunDirectory, kind: str, understand: Callable[[int, Arrays, Metadata], Snapshot]
) -> tuple[list[Snapshot], int]:
    """The same for a run and what it was forked from, up to each fork and to the step that the run has come to.

    A run that went on from an earlier checkpoint leaves snapshots beyond its step until it gets there again.
    """
    last_step = run_status(run).step
    found = [read_snapshots(past.run, kind, understand, min(past.until_step, last_step)) for past in lineage(run)]
    return [snapshot for snapshots, _ in found for snapshot in snapshots], sum(num_skipped for _, num_skipped in found)


def strings(text: str) -> tuple[str, ...]:
    """A JSON list of strings, such as names or captions.

    Raises:
        ValueError: it is none.
    """
    found = parse_json(text, "names")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("not a list of strings")
    return tuple(found)


def _step(path: Path, kind: str) -> int:
    name = re.fullmatch(rf"{kind}-(\d+)\.safetensors", path.name)
    if name is None:
        raise ValueError(f"{path} is not a snapshot of {kind}")
    return int(name[1])


def _read(path: Path) -> tuple[Arrays, Metadata]:
    from safetensors import SafetensorError, safe_open

    if file_size(path) > MOST_BYTES:
        raise UnreadableError(path, f"larger than {MOST_BYTES:,} bytes")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is not a mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if metadata.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {metadata.get('schema')}, not {SCHEMA}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"{path} holds numbers that are not finite")
    return arrays, metadata
