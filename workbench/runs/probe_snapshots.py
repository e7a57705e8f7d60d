"""What student and teacher say of the same few held-out pairs, at every evaluation of a run.

Shape letters: P probe pairs, D and E widths.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.documents import parse_json
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Arrays, Metadata, read_snapshot_history, strings, write_snapshot

KIND = "probe"
MOST_PAIRS = 32
Halves = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Said:
    """One model's embeddings of the probe pairs, at unit length before they were rounded, and its scale 1/τ."""

    image_PD: Halves
    text_PD: Halves
    scale: float


@dataclass(frozen=True, eq=False)
class Probe:
    """The embeddings of P pairs after ``step`` steps; ``captions`` are what the texts are of.

    ``teacher`` is None for a run without one.
    """

    step: int
    captions: tuple[str, ...]
    student: Said
    teacher: Said | None = None


@dataclass(frozen=True)
class ProbeSnapshots:
    """The probes of a run in the order of their steps, and how many files could not be understood."""

    probes: list[Probe]
    num_skipped: int


def write_probe(run: RunDirectory, probe: Probe) -> Path:
    """Write one snapshot, in place of any of the same step.

    Raises:
        ValueError: an embedding is not finite.
        OSError: it cannot be written; what was there before is intact.
    """
    arrays: dict[str, NDArray[Any]] = {}
    scales = {}
    for name, said in (("student", probe.student), ("teacher", probe.teacher)):
        if said is not None:
            arrays |= {f"{name}_image": said.image_PD, f"{name}_text": said.text_PD}
            scales[name] = said.scale
    metadata = {"captions": json.dumps(probe.captions), "scales": json.dumps(scales)}
    return write_snapshot(run, KIND, probe.step, arrays, metadata)


def read_probe_history(run: RunDirectory) -> ProbeSnapshots:
    """Every probe of a run and of what it was forked from, up to the step that it has come to.

    Files that are torn or foreign are counted, never raised.
    """
    return ProbeSnapshots(*read_snapshot_history(run, KIND, _probe))


def _probe(step: int, arrays: Arrays, metadata: Metadata) -> Probe:
    captions = strings(metadata["captions"])
    scales = parse_json(metadata["scales"], "scales")
    said = {name: Said(arrays[f"{name}_image"], arrays[f"{name}_text"], float(scales[name])) for name in scales}
    if any(part_PD.shape[:-1] != (len(captions),) for one in said.values() for part_PD in (one.image_PD, one.text_PD)):
        raise ValueError(f"the embeddings do not fit their {len(captions)} captions")
    return Probe(step, captions, said["student"], said.get("teacher"))
