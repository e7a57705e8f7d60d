"""Train the runs that ship with the package: ``python tests/tools/record.py data_samples/runs``.

Each is trained by ``workbench train``, in minutes on two cores. Then everything that the notebooks do not read is
removed: all checkpoints except one student in half precision, most mask snapshots, and unused dimensions of the probes.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from workbench.engine.checkpoint import LEARNED, TRAINING, load_learned
from workbench.events import CheckpointSaved
from workbench.files import write_atomically
from workbench.models.folder import WEIGHTS, config_files, load_folder
from workbench.models.weights import weights_sha256
from workbench.runs.checkpoints import checkpoints, newest_checkpoint, read_manifest, write_checkpoint
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import MaskSnapshot, Probe, read_snapshot_history, read_snapshots, write_snapshot

MASKS_KEPT = 4  # every fourth snapshot is kept, and those next to a change of phase
MOST_PROBES = {"example-clip-kd": 8, "example-tinyclip": 2}
STUDENTS_KEPT = ("example-clip-kd",)
COMMON = ("--set", "log.every_steps=4", "--set", "log.checkpoint_every_steps=0", "--cache-teacher", "off")
COMMANDS = {
    "example-clip-kd": (
        *("--recipe", "clip-kd", "--steps", "160", "--set", "loss.gd.convention=released"),
        *("--set", "loss.gd.weight=1e8", "--set", "log.diagnose_every_steps=5", "--set", "evaluate.every_steps=8"),
    ),
    "example-tinyclip": (
        *("--recipe", "tinyclip-auto-3stage", "--steps", "180", "--set", "data.num_validation_pairs=300"),
        *("--set", "log.diagnose_every_steps=20", "--set", "evaluate.every_steps=20"),
    ),
}


def record(folder: Path) -> None:
    """Train all runs of ``COMMANDS`` into ``folder``; existing runs with these names are replaced.

    Raises:
        subprocess.CalledProcessError: a run failed.
    """
    for name, arguments in COMMANDS.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        command = [sys.executable, "-m", "workbench", "train", *arguments, *COMMON]
        subprocess.run([*command, "--name", name, "--runs", str(folder)], check=True)
        _trim(RunDirectory(folder / name))


def _trim(run: RunDirectory) -> None:
    """Remove what notebooks do not read."""
    _thin_probes(run)
    if run.id in STUDENTS_KEPT:
        _thin_checkpoint(run)
    else:
        shutil.rmtree(run.checkpoints)
    shutil.rmtree(run.control, ignore_errors=True)
    run.lock_file.unlink(missing_ok=True)
    lines = run.events_file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["event"] != CheckpointSaved.__name__]
    write_atomically(run.events_file, "".join(kept))
    summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
    write_atomically(run.summary_file, json.dumps(summary | {"dir": f"data_samples/runs/{run.id}"}, indent=2) + "\n")
    masks = read_snapshots(run, MaskSnapshot).snapshots
    changes = {
        one.step for before, after in pairwise(masks) if _phase(before) != _phase(after) for one in (before, after)
    }
    for place, snapshot in enumerate(masks):
        if place % MASKS_KEPT and snapshot.step not in changes and snapshot is not masks[-1]:
            (run.snapshots / f"masks-{snapshot.step:08d}.safetensors").unlink()


def _thin_probes(run: RunDirectory) -> None:
    """Keep a few evenly spaced probes with as few dimensions as possible."""
    probes = read_snapshot_history(run, Probe).snapshots
    kept = np.linspace(0, len(probes) - 1, min(MOST_PROBES[run.id], len(probes))).round().astype(int).tolist()
    for place, probe in enumerate(probes):
        if place in kept:
            write_snapshot(run, narrowed(probe))
        else:
            (run.snapshots / f"probe-{probe.step:08d}.safetensors").unlink()


def _thin_checkpoint(run: RunDirectory) -> None:
    """Keep the last checkpoint: the student in half precision and the losses' learned parts, without the optimizer."""
    newest = newest_checkpoint(run)
    assert newest is not None
    rounded = load_folder(newest)
    halves = {name: _half(tensor) for name, tensor in rounded.towers.state_dict().items()}
    rounded.towers.load_state_dict(halves)
    learned = {LEARNED + name: tensor for name, tensor in load_learned(newest).items()}
    files = config_files(rounded) | {WEIGHTS: save(halves), TRAINING: save(learned)}
    facts = read_manifest(newest) | {"weights_sha256": weights_sha256(rounded.towers)}
    step = facts.pop("step")
    del facts["sha256"]
    for checkpoint in checkpoints(run):
        shutil.rmtree(checkpoint)
    write_checkpoint(run, step, files, facts)


def _half(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()


def _phase(snapshot: MaskSnapshot) -> tuple[bool, int]:
    return snapshot.learning, snapshot.stage


def narrowed(probe: Probe) -> Probe:
    """The embeddings rotated into the subspace that they span, which keeps all inner products of a step.

    Each step has another rotation, so embeddings of different steps cannot be compared.
    """
    models = [probe.student, *([probe.teacher] if probe.teacher else [])]
    parts = [part_PD.astype(np.float64) for model in models for part_PD in (model.image_PD, model.text_PD)]
    if len({part_PD.shape[1] for part_PD in parts}) > 1:
        return probe
    basis_DK = np.linalg.qr(np.concatenate(parts).T)[0]
    rotated = iter([(part_PD @ basis_DK).astype(np.float16) for part_PD in parts])
    outputs = [replace(model, image_PD=next(rotated), text_PD=next(rotated)) for model in models]
    return replace(probe, student=outputs[0], teacher=outputs[1] if probe.teacher else None)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
