"""Save and restore everything a run needs to continue, and check that its checkpoints fit on the disk.

A checkpoint is also a model folder in open_clip's layout: the student's weights are one file, and what only training
needs is another."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from workbench.config.run import RunConfig
from workbench.engine import stages
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.engine.step import first_not_finite
from workbench.events import CheckpointSaved
from workbench.files import FULL, DiskFullError
from workbench.inheritance import Gated, slice_gated
from workbench.models.folder import WEIGHTS, config_files
from workbench.models.weights import load_weights, weights_sha256
from workbench.process import free_bytes
from workbench.runs.checkpoints import make_room, prune_checkpoints, read_manifest, write_checkpoint

TRAINING = "training.safetensors"
DETECTOR = "detector.safetensors"  # of a run that trains a detector behind its last step
LOSS_FILES = "loss_files"  # key of the manifest: SHA-256 of the files of users' losses
# Prefixes of its tensor names. For a student with gates the unpruned towers are there too, since the model folder holds
# the student as the current masks would prune it.
LEARNED, OPTIMIZER, TOWERS, GATES, LOSS_SCALE = "learnt/", "optimizer/", "towers/", "gates/", "loss_scale/"


def save_checkpoint(member: Member, step: int) -> CheckpointSaved | None:
    """Write the member's state after ``step`` steps; None if it has no directory.

    Raises:
        OSError: the disk is full, even after all older checkpoints but the newest intact one were deleted.
        ValueError: a tensor is not finite, so that no run could continue from it.
    """
    if member.directory is None:
        return None
    state = member.state
    detector = member.detector.tensors() if member.detector else {}
    if name := first_not_finite(state.state_dict() | state.optimizer_tensors() | detector):
        raise ValueError(f"{name} is not finite")
    student = slice_gated(Gated(state.student, state.gates)) if state.gates else state.student
    rest = {OPTIMIZER + name: tensor for name, tensor in state.optimizer_tensors().items()}
    if member.loss_scale:
        rest |= {LOSS_SCALE + name: tensor for name, tensor in member.loss_scale.tensors().items()}
    files = {
        **config_files(student),
        WEIGHTS: _to_bytes(student.towers.state_dict()),
        TRAINING: _to_bytes(training_tensors(state) | rest),
        **({DETECTOR: _to_bytes(detector)} if detector else {}),
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
        LOSS_FILES: member.loss_files,
        **stages.document(member),
    }
    try:
        path = write_checkpoint(member.directory, step, files, facts)
    except OSError as error:
        # On a full disk, delete all checkpoints but the newest intact one and try once more.
        if error.errno not in FULL or not make_room(member.directory):
            raise
        path = write_checkpoint(member.directory, step, files, facts)
    prune_checkpoints(member.directory, member.config.log.keep_checkpoints)
    return CheckpointSaved(run=member.run, step=step, path=str(path), weights_sha256=digest)


def load_checkpoint(
    member: Member, checkpoint: Path, fitting: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> int:
    """Restore the training tensors that ``fitting`` selects, by default all; returns the number of steps taken.

    Raises:
        ValueError: the checkpoint is damaged, belongs to another architecture, or holds weights that are not finite.
    """
    manifest = read_manifest(checkpoint)
    member.step = int(manifest["step"])
    member.elapsed_s = float(manifest["elapsed_s"])
    stages.reenter(member, manifest, member.step)
    state, source = member.state, str(checkpoint / TRAINING)
    saved = load((checkpoint / TRAINING).read_bytes())
    if member.loss_scale and (scale := _under(LOSS_SCALE, saved)):  # none where the parent of a fork was not float16
        member.loss_scale.load(scale)
    if (checkpoint / DETECTOR).exists():
        member.detector_tensors = load((checkpoint / DETECTOR).read_bytes())
    training = fitting(saved)
    if state.gates:
        load_weights(state.student.towers, _under(TOWERS, training), source)
        load_weights(state.gates, _under(GATES, training), source)
    else:
        weights = load((checkpoint / WEIGHTS).read_bytes())
        if state.student.bias is not None and "logit_bias" not in weights:
            # A fork has added the sigmoid loss: scale and bias start as in a new run.
            own = state.student.towers.state_dict()
            weights |= {name: own[name] for name in ("logit_scale", "logit_bias")}
        load_weights(state.student.towers, weights, str(checkpoint / WEIGHTS))
    load_weights(state.learned, _under(LEARNED, training), source)
    state.load_optimizer_tensors(_under(OPTIMIZER, training))
    if name := first_not_finite(state.state_dict() | state.optimizer_tensors()):
        raise ValueError(
            f"{checkpoint} cannot be resumed, {name} is not finite: fork from an earlier checkpoint with a lower "
            "learning rate: workbench runs fork RUN --at STEP --set optimizer.learning_rate=RATE"
        )
    return member.step


def training_tensors(state: TrainState) -> dict[str, Tensor]:
    """Tensors that only training needs, without the optimizer's, by their names in a checkpoint."""
    tensors = {LEARNED + name: tensor for name, tensor in state.learned.state_dict().items()}
    if state.gates:
        tensors |= {TOWERS + name: tensor for name, tensor in state.student.towers.state_dict().items()}
        tensors |= {GATES + name: tensor for name, tensor in state.gates.state_dict().items()}
    return tensors


def load_learned(checkpoint: Path) -> dict[str, Tensor]:
    """The learned parts of the losses in a checkpoint."""
    return _under(LEARNED, load((checkpoint / TRAINING).read_bytes()))


def _to_bytes(tensors: dict[str, Tensor]) -> bytes:
    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return content


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


ADAM_COPIES = 3  # weights and two moments


def checkpoints_bytes(member: Member) -> int:
    """The most bytes that a run's checkpoints take at any time."""
    # Plus one, since a new checkpoint is complete before an old one is deleted. While masks are learned, a checkpoint
    # holds the unpruned towers and the pruned student.
    config, state = member.config, member.state
    num_bytes = ADAM_COPIES * _num_bytes(state) + (_num_bytes(state.student.towers) if state.gates else 0)
    log, num_steps = config.log, config.train.num_steps
    num_saved = 1 + (num_steps // log.checkpoint_every_steps if log.checkpoint_every_steps else 0)
    return (min(log.keep_checkpoints, num_saved) + 1) * num_bytes


def remedy(config: RunConfig) -> str:
    """The remedy where a run's checkpoints do not fit on the disk."""
    fewer = "keep fewer checkpoints with --set log.keep_checkpoints=1, " if config.log.keep_checkpoints > 1 else ""
    return f"make room, {fewer}or name another disk with --runs DIR"


def check_room(members: Sequence[Member]) -> None:
    """Refuse runs whose checkpoints would fill the disk; those that a resumed run already has count as room."""
    kept = {member.directory: member for member in members if member.directory}
    if not kept:
        return
    first = next(iter(kept))
    needed = sum(max(0, checkpoints_bytes(member) - _written(member)) for member in kept.values())
    if needed > free_bytes(first.path):
        has_started = first.events_file.stat().st_size > 0  # then neither its settings nor its folder can change
        what_to_do = "make room there" if has_started else remedy(kept[first].config)
        raise ValueError(f"{DiskFullError(first.path.parent, needed)}; {what_to_do}")


def _num_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _written(member: Member) -> int:
    """Bytes of the checkpoints on the disk."""
    assert member.directory is not None
    return sum(file.stat().st_size for file in member.directory.checkpoints.rglob("*") if file.is_file())
