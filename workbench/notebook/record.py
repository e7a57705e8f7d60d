"""The runs that came with the workbench, made anew: ``python -m workbench.notebook.record data_samples/runs``.

Each is trained by the command line like any other, in minutes on two cores; then what a notebook does not read goes:
the checkpoints, but for one student, rounded; most of the masks' snapshots; and the dimensions that the few probe pairs
do not use.
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
from workbench.runs.mask_snapshots import MaskSnapshot, read_masks
from workbench.runs.snapshots import Probe, read_probe_history, write_probe

MASKS_KEPT = 4  # one of so many snapshots, and those between which a phase begins
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
    """Trains every run of ``COMMANDS`` into ``folder``, in place of any of its name.

    Raises:
        subprocess.CalledProcessError: a run failed.
    """
    for name, arguments in COMMANDS.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        command = [sys.executable, "-m", "workbench", "train", *arguments, *COMMON]
        subprocess.run([*command, "--name", name, "--runs", str(folder)], check=True)
        _trim(RunDirectory(folder / name))


def _trim(run: RunDirectory) -> None:
    """Leaves what a notebook reads."""
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
    masks = read_masks(run).snapshots
    turns = {one.step for pair in pairwise(masks) if (pair[0].learning, pair[0].stage) != _of(pair[1]) for one in pair}
    for place, snapshot in enumerate(masks):
        if place % MASKS_KEPT and snapshot.step not in turns and snapshot is not masks[-1]:
            (run.snapshots / f"masks-{snapshot.step:08d}.safetensors").unlink()


def _thin_probes(run: RunDirectory) -> None:
    """Leaves a few, evenly spread, as narrow as they can be."""
    probes = read_probe_history(run).probes
    kept = np.linspace(0, len(probes) - 1, min(MOST_PROBES[run.id], len(probes))).round().astype(int).tolist()
    for place, probe in enumerate(probes):
        if place in kept:
            write_probe(run, narrowed(probe))
        else:
            (run.snapshots / f"probe-{probe.step:08d}.safetensors").unlink()


def _thin_checkpoint(run: RunDirectory) -> None:
    """Leaves the last: the student in half precision, and what its losses learnt. It can be measured, not resumed."""
    newest = newest_checkpoint(run)
    assert newest is not None
    rounded = load_folder(newest)
    halves = {name: _half(tensor) for name, tensor in rounded.towers.state_dict().items()}
    rounded.towers.load_state_dict(halves)
    learnt = {LEARNED + name: tensor for name, tensor in load_learned(newest).items()}
    files = config_files(rounded) | {WEIGHTS: save(halves), TRAINING: save(learnt)}
    facts = read_manifest(newest) | {"weights_sha256": weights_sha256(rounded.towers)}
    step = facts.pop("step")
    del facts["sha256"]
    for checkpoint in checkpoints(run):
        shutil.rmtree(checkpoint)
    write_checkpoint(run, step, files, facts)


def _half(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()


def _of(snapshot: MaskSnapshot) -> tuple[bool, int]:
    return snapshot.learning, snapshot.stage


def narrowed(probe: Probe) -> Probe:
    """The same embeddings in as few dimensions as hold them all: every inner product between them stays.

    They are turned together, and otherwise at every step, so that those of two steps cannot be compared.
    """
    models = [probe.student, *([probe.teacher] if probe.teacher else [])]
    parts = [part_PD.astype(np.float64) for model in models for part_PD in (model.image_PD, model.text_PD)]
    if len({part_PD.shape[1] for part_PD in parts}) > 1:
        return probe
    basis_DK = np.linalg.qr(np.concatenate(parts).T)[0]
    turned = iter([(part_PD @ basis_DK).astype(np.float16) for part_PD in parts])
    said = [replace(model, image_PD=next(turned), text_PD=next(turned)) for model in models]
    return replace(probe, student=said[0], teacher=said[1] if probe.teacher else None)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
