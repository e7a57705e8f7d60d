"""Saving and restoring everything a run needs to go on as if it had never stopped.

A checkpoint is at the same time a model folder in open_clip's layout: the student's weights are one file, and what only
training needs is another.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from workbench.engine import stages
from workbench.engine.divergence import first_not_finite
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.events import CheckpointSaved
from workbench.files import FULL
from workbench.inheritance import Gated, slice_gated
from workbench.models.fingerprint import weights_sha256
from workbench.models.folder import WEIGHTS, config_files
from workbench.models.weights import load_weights
from workbench.runs.checkpoints import make_room, prune_checkpoints, read_manifest, write_checkpoint

TRAINING = "training.safetensors"
# What begins the names of the tensors in it. Of a student with gates, the whole towers are there too: the model folder
# holds what is left of them as they stand.
LEARNT, OPTIMIZER, TOWERS, GATES = "learnt/", "optimizer/", "towers/", "gates/"


def save_checkpoint(member: Member, step: int) -> CheckpointSaved | None:
    """Write the member's state after ``step`` steps; None where the member keeps nothing.

    Raises:
        OSError: the disk is full, though all older checkpoints but the newest whole one have made room.
        ValueError: something in it is not finite, so that nothing could go on from it.
    """
    if member.directory is None:
        return None
    state = member.state
    if name := first_not_finite(state.state_dict() | state.optimizer_tensors()):
        raise ValueError(f"{name} is not finite")
    student = slice_gated(Gated(state.student, state.gates)) if state.gates else state.student
    optimizer = {OPTIMIZER + name: tensor for name, tensor in state.optimizer_tensors().items()}
    files = {
        **config_files(student),
        WEIGHTS: _to_bytes(student.towers.state_dict()),
        TRAINING: _to_bytes(training_tensors(state) | optimizer),
    }
    digest = weights_sha256(student.towers)
    facts = {
        "elapsed_s": member.elapsed_s,
        "weights_sha256": digest,
        "torch": torch.__version__,
        "config": member.config.model_dump(mode="json"),
        "data_fingerprint": member.data_fingerprint,
        "held_out": member.held_out,
        "teacher": member.teacher,
        **stages.document(member),
    }
    try:
        path = write_checkpoint(member.directory, step, files, facts)
    except OSError as error:
        if error.errno not in FULL or not make_room(member.directory):
            raise
        path = write_checkpoint(member.directory, step, files, facts)
    prune_checkpoints(member.directory, member.config.log.keep_checkpoints)
    return CheckpointSaved(run=member.run, step=step, path=str(path), weights_sha256=digest)


def load_checkpoint(
    member: Member, checkpoint: Path, fitting: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> int:
    """Restore the member from a checkpoint; returns the number of steps taken.

    Args:
        fitting: chooses what is restored of all that only training needs; everything, unless given.

    Raises:
        ValueError: the checkpoint is damaged, belongs to another architecture, or holds weights that are not finite.
    """
    manifest = read_manifest(checkpoint)
    member.step = int(manifest["step"])
    member.elapsed_s = float(manifest["elapsed_s"])
    stages.reenter(member, manifest, member.step)
    state, source = member.state, str(checkpoint / TRAINING)
    training = fitting(load((checkpoint / TRAINING).read_bytes()))
    if state.gates:
        load_weights(state.student.towers, _under(TOWERS, training), source)
        load_weights(state.gates, _under(GATES, training), source)
    else:
        load_weights(state.student.towers, load((checkpoint / WEIGHTS).read_bytes()), str(checkpoint / WEIGHTS))
    load_weights(state.learnt, _under(LEARNT, training), source)
    state.load_optimizer_tensors(_under(OPTIMIZER, training))
    if name := first_not_finite(state.state_dict() | state.optimizer_tensors()):
        raise ValueError(
            f"{checkpoint} cannot be gone on from, {name} is not finite: fork from an earlier checkpoint with a lower "
            "learning rate: workbench runs fork RUN --at STEP --set optimizer.learning_rate=RATE"
        )
    return member.step


def training_tensors(state: TrainState) -> dict[str, Tensor]:
    """What only training needs, the optimiser's own apart, by its names in a checkpoint."""
    tensors = {LEARNT + name: tensor for name, tensor in state.learnt.state_dict().items()}
    if state.gates:
        tensors |= {TOWERS + name: tensor for name, tensor in state.student.towers.state_dict().items()}
        tensors |= {GATES + name: tensor for name, tensor in state.gates.state_dict().items()}
    return tensors


def load_learnt(checkpoint: Path) -> dict[str, Tensor]:
    """The projections and loss parts that a checkpoint holds beside its student."""
    return _under(LEARNT, load((checkpoint / TRAINING).read_bytes()))


def _to_bytes(tensors: dict[str, Tensor]) -> bytes:
    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return content


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
