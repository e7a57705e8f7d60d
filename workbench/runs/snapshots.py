"""Snapshots of tensors during a run, one file per kind and step in ``snapshots/``; and those of the probe pairs.

Files are named ``KIND-STEP.safetensors``; metadata values are strings, JSON if they are more than a word.

Shape letters: P probe pairs, D and E widths.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.documents import UnreadableError, file_size, parse_json
from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status
from workbench.runs.log import lineage

SCHEMA = "1"
MOST_BYTES = 64 * 2**20
NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
Arrays = Mapping[str, NDArray[Any]]
Metadata = Mapping[str, str]
Snapshot = TypeVar("Snapshot")


def write_snapshot(run: RunDirectory, kind: str, step: int, arrays: Arrays, metadata: Metadata) -> Path:
    """Write one snapshot; replaces one of the same kind and step.

    Raises:
        ValueError: an array is not finite.
        OSError: it cannot be written; an earlier file is intact.
    """
    from safetensors.numpy import save

    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"the {kind} snapshot after step {step} has non-finite values")
    path = run.snapshots / f"{kind}-{step:08d}.safetensors"
    run.snapshots.mkdir(exist_ok=True)
    write_atomically(path, save(dict(arrays), {"schema": SCHEMA, **metadata}))
    return path


def read_snapshots(
    run: RunDirectory, kind: str, understand: Callable[[int, Arrays, Metadata], Snapshot], until_step: float = math.inf
) -> tuple[list[Snapshot], int]:
    """The snapshots of a kind up to a step, by step, and the number of unreadable files.

    Args:
        understand: converts (step, arrays, metadata) to a snapshot; raises any of ``NOT_OURS`` if it is not one.
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
    """The same including the run's ancestors, up to each fork and to the run's current step."""
    # A run resumed from an earlier checkpoint still has snapshots of later steps.
    last_step = run_status(run).step
    found = [read_snapshots(past.run, kind, understand, min(past.until_step, last_step)) for past in lineage(run)]
    return [snapshot for snapshots, _ in found for snapshot in snapshots], sum(num_skipped for _, num_skipped in found)


def strings(text: str) -> tuple[str, ...]:
    """A JSON list of strings, such as names or captions.

    Raises:
        ValueError: the text is not a JSON list of strings.
    """
    found = parse_json(text, "names")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("not a list of strings")
    return tuple(found)


def _step(path: Path, kind: str) -> int:
    name = re.fullmatch(rf"{kind}-(\d+)\.safetensors", path.name)
    if name is None:
        raise ValueError(f"{path} is not a {kind} snapshot")
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
        raise ValueError(f"{path} has non-finite values")
    return arrays, metadata


KIND = "probe"
MOST_PAIRS = 32
Halves = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class ProbeOutputs:
    """One model's unit-length embeddings of the probe pairs, rounded to float16, and its logit scale 1/τ."""

    image_PD: Halves
    text_PD: Halves
    scale: float


@dataclass(frozen=True, eq=False)
class Probe:
    """Embeddings of P held-out pairs and their captions after ``step`` steps; ``teacher`` is None without a teacher."""

    step: int
    captions: tuple[str, ...]
    student: ProbeOutputs
    teacher: ProbeOutputs | None = None


@dataclass(frozen=True)
class ProbeSnapshots:
    """The probes of a run by step, and the number of unreadable files."""

    probes: list[Probe]
    num_skipped: int


def write_probe(run: RunDirectory, probe: Probe) -> Path:
    """Write one snapshot, in place of any of the same step.

    Raises:
        ValueError: an embedding is not finite.
        OSError: it cannot be written; an earlier file is intact.
    """
    arrays: dict[str, NDArray[Any]] = {}
    scales = {}
    for name, outputs in (("student", probe.student), ("teacher", probe.teacher)):
        if outputs is not None:
            arrays |= {f"{name}_image": outputs.image_PD, f"{name}_text": outputs.text_PD}
            scales[name] = outputs.scale
    metadata = {"captions": json.dumps(probe.captions), "scales": json.dumps(scales)}
    return write_snapshot(run, KIND, probe.step, arrays, metadata)


def read_probe_history(run: RunDirectory) -> ProbeSnapshots:
    """All probes of a run and its ancestors, up to its current step. Unreadable files are counted, not raised."""
    return ProbeSnapshots(*read_snapshot_history(run, KIND, _probe))


def _probe(step: int, arrays: Arrays, metadata: Metadata) -> Probe:
    captions = strings(metadata["captions"])
    scales = parse_json(metadata["scales"], "scales")
    outputs = {
        name: ProbeOutputs(arrays[f"{name}_image"], arrays[f"{name}_text"], float(scale))
        for name, scale in scales.items()
    }
    for one in outputs.values():
        if any(part_PD.shape[:-1] != (len(captions),) for part_PD in (one.image_PD, one.text_PD)):
            raise ValueError(f"the embeddings do not match their {len(captions)} captions")
    return Probe(step, captions, outputs["student"], outputs.get("teacher"))
