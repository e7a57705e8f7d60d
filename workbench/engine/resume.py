"""Resume a run: restore its newest checkpoint, and check that settings, data, teacher and machine are the same."""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.config.run import RunConfig
from workbench.config.toml import merge, read_toml, with_overrides
from workbench.engine.cadence import jumps
from workbench.engine.checkpoint import LEARNED, LOSS_FILES, OPTIMIZER, load_checkpoint, training_tensors
from workbench.engine.device import changed_facts, machine_facts, resolve_device
from workbench.engine.member import Member
from workbench.engine.settings import LOSS_FILE, absolute_table, applied_overrides, with_absolute_paths
from workbench.engine.state import TrainState
from workbench.events import Forked
from workbench.losses.learned import LearnedParts
from workbench.models.folder import CONFIG, TOKENIZER, config_files
from workbench.runs.checkpoints import checkpoint_step, damaged_checkpoints, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.log import first_events, forked_from, lineage
from workbench.views.comparison import ComparedRun, compare_runs

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """Steps already taken, whether the run has a log already, and warnings."""

    step: int = 0
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def restore(member: Member) -> Start:
    """Restore the member from its directory, with the settings changed during training."""
    assert member.directory is not None
    start = _load_newest(member, member.directory)
    if changes := applied_overrides(member.directory, start.step):
        member.change(changes)
    return start


def restore_together(members: Sequence[Member]) -> Start:
    """:func:`restore` the members of a cohort, which must be at the same step."""
    starts = [restore(member) for member in members]
    first = starts[0]
    for member, start in zip(members, starts, strict=True):
        if (start.step, start.is_resumed) != (first.step, first.is_resumed):
            raise ValueError(
                f"run {member.run} resumes from step {start.step} and {members[0].run} from step {first.step}: "
                "resume them separately"
            )
    return Start(first.step, first.is_resumed, tuple(note for start in starts for note in start.notes))


def start_of(run: RunDirectory) -> Start:
    """The start of a run that is not a fork."""
    checkpoint = newest_checkpoint(run)
    step = 0 if checkpoint is None else checkpoint_step(checkpoint)
    return Start(step, is_resumed=checkpoint is not None or run.events_file.stat().st_size > 0)


def _load_newest(member: Member, run: RunDirectory) -> Start:
    checkpoint, forked = newest_checkpoint(run), forked_from(run)
    if forked is None:
        if checkpoint is not None:
            load_checkpoint(member, checkpoint)
        return start_of(run)
    if checkpoint is None:
        raise ValueError(f"run {run.id} has lost the checkpoint that it was forked from: fork it from its parent again")
    is_resumed = len(first_events(run.events_file)) > 1  # the first event, Forked, is there from its creation on
    if checkpoint_step(checkpoint) > forked.parent_step:
        return Start(load_checkpoint(member, checkpoint), is_resumed)
    # Otherwise it is the parent's, whose losses and optimizer may differ from those of this fork.
    notes = _load_parent(member, checkpoint)
    if changed := _changed_losses(member, checkpoint):
        files = ", ".join(f"loss.{name}.file ({file})" for name, file in changed.items())
        notes = (*notes, f"this fork trains with another version than its parent of {files}")
    before = _settings_there(run, forked, checkpoint)
    return Start(member.step, is_resumed, (*notes, *(jumps(before, member.config, member.step) if before else ())))


def _settings_there(run: RunDirectory, forked: Forked, checkpoint: Path) -> RunConfig | None:
    """The parent's settings at the checkpoint, with changes during its training; None if unknown."""
    saved = read_manifest(checkpoint).get("config")
    if saved is None:
        return None
    parents = [past.run for past in lineage(run) if past.run.id == forked.parent]
    changes = applied_overrides(parents[-1], forked.parent_step) if parents else {}
    return with_overrides(RunConfig.parse(saved), [f"{setting}={value}" for setting, value in changes.items()])


def _load_parent(member: Member, checkpoint: Path) -> tuple[str, ...]:
    """Restore the student and every training tensor whose shape fits; returns notes on the others."""
    shapes: dict[str, torch.Size] = {}
    taken: Tensors = {}
    left: Tensors = {}

    def fitting(training: Tensors) -> Tensors:
        shapes.update(_shapes(member.state))  # here, since the student has the parent's architecture only by now
        for name, value in training.items():
            owner, shaped = name, value
            if name.startswith(OPTIMIZER):
                owner = name.rpartition("/")[0]
                shaped = training[f"{owner}/exp_avg"]  # the step count is a scalar: the first moment's shape decides
            (taken if shapes.get(owner) == shaped.shape else left)[name] = value
        return {LEARNED + name: value for name, value in member.state.learned.state_dict().items()} | taken

    load_checkpoint(member, checkpoint, fitting)
    own = {name for name in shapes if name.startswith(LEARNED)}
    return tuple(
        f"{what}: {', '.join(parts)}"
        for what, parts in (
            ("new to this fork, and untrained at its start", _parts(own - taken.keys())),
            ("learned by the parent, and not used by this fork", _parts(left.keys() - own)),
        )
        if parts
    )


def _shapes(state: TrainState) -> dict[str, torch.Size]:
    """Shapes of all training tensors, the optimizer's parameters included, by their names in a checkpoint."""
    tensors = {name: value.shape for name, value in training_tensors(state).items()}
    return tensors | {OPTIMIZER + name: value.shape for name, value in state.named_parameters()}


def _parts(names: set[str]) -> list[str]:
    """Owners of the learned loss parts among these tensor names."""
    return LearnedParts.owners(name.removeprefix(LEARNED) for name in names if name.startswith(LEARNED))


FREE = (
    "log.",
    "data.num_workers",
    "data.prepare",
    "teacher.cache",
    "train.device",
    "train.micro_batch_size",
    "evaluate.",
)  # settings that do not change a training step
MAX_SHOWN = 5


def check_unchanged(run: RunDirectory, config: RunConfig, moved: Collection[str] = ()) -> None:
    """Refuse to resume with settings that differ from those of the run's newest checkpoint.

    Args:
        moved: path settings that may differ; :func:`check_same_inputs` compares the files themselves.
    """
    checkpoint = _own_checkpoint(run)
    if checkpoint is None:
        return
    now = with_absolute_paths(config).model_dump(mode="json")
    # A setting that a newer version has added had its default.
    defaults = RunConfig().model_dump(mode="json", exclude={"loss"})
    before = merge(defaults, dict(absolute_table(read_manifest(checkpoint).get("config", now))))
    compared = compare_runs([ComparedRun("before", before), ComparedRun("now", now)])
    changed = [
        f"{setting.name} was {setting.values[0]} and is {setting.values[1]}"
        for setting in compared.settings
        if setting.differs and not setting.name.startswith(FREE) and setting.name not in moved
    ]
    if changed:
        shown = "; ".join(changed[:MAX_SHOWN]) + ("; ..." if len(changed) > MAX_SHOWN else "")
        raise ValueError(
            f"{run.config_file} was edited since {checkpoint.name}: {shown}; put it back, and make the change in a "
            f"new run: workbench runs fork {run.id} --set KEY=VALUE"
        )


def check_same_inputs(run: RunDirectory, member: Member) -> None:
    """Refuse to resume with other training pairs, teacher or user's losses than those of the newest checkpoint.

    Whether the files have moved does not matter.
    """
    checkpoint = _own_checkpoint(run)
    if checkpoint is None:
        return
    manifest, weights = read_manifest(checkpoint), "weights_sha256"
    for what, now, before in (
        ("the pairs of data.train have", member.data_fingerprint, manifest.get("data_fingerprint")),
        ("the weights of teacher.model have", member.teacher.get(weights), manifest.get("teacher", {}).get(weights)),
    ):
        if before and now != before:
            raise ValueError(
                f"{what} changed since {checkpoint.name}: put them back, or use these in a new run: "
                f"workbench runs fork {run.id}"
            )
    for name, file in _changed_losses(member, checkpoint).items():
        raise ValueError(
            f"loss.{name}.file, {file}, has changed since {checkpoint.name}: put it back, or use it in a new run: "
            f"workbench runs fork {run.id} --set {shlex.quote(f'loss.{name}.file={file}')}"
        )


def _changed_losses(member: Member, checkpoint: Path) -> dict[str, str]:
    """The files of users' losses whose recorded SHA-256 is another, by loss; an older version recorded none."""
    before, now = read_manifest(checkpoint).get(LOSS_FILES, {}), member.loss_files
    return {name: member.objective.losses[name].file for name in now if before.get(name, now[name]) != now[name]}


def check_moved(run: RunDirectory, member: Member, changed: Collection[str]) -> list[str]:
    """Refuse new paths of held-out pairs or of a student whose content differs from before.

    :func:`check_same_inputs` compares all others.

    Args:
        changed: the settings whose files have moved.

    Returns:
        a note on paths without a recorded fingerprint to compare with.
    """
    checkpoint = _own_checkpoint(run)
    recorded = read_manifest(checkpoint).get("held_out", {}) if checkpoint else {}
    unknown = []
    for name in sorted(changed):
        split = name.removeprefix("data.")
        if name.startswith("data.") and split in member.held_out and split in recorded:
            is_same = member.held_out[split] == recorded[split]
        elif checkpoint and name in ("student.model", "inheritance.source"):
            is_same = _input_spec(config_files(member.state.student)) == _input_spec(
                {file: (checkpoint / file).read_bytes() for file in (CONFIG, TOKENIZER)}
            )
        else:
            is_same = True
            if checkpoint is None or not (name in ("data.train", "teacher.model") or LOSS_FILE.fullmatch(name)):
                unknown.append(name)
        if not is_same:
            raise ValueError(
                f"the new {name} has other content than before: name the same files, or use these in a "
                f"new run: workbench runs fork {run.id} --set {name}=SPEC"
            )
    return [f"new paths without a recorded fingerprint to compare with: {', '.join(unknown)}"] if unknown else []


def _input_spec(files: Mapping[str, bytes]) -> tuple[Any, Any]:
    """Preprocessing and tokenizer of a model folder."""
    return json.loads(files[CONFIG]).get("preprocess_cfg"), json.loads(files[TOKENIZER])


def _own_checkpoint(run: RunDirectory) -> Path | None:
    """The newest checkpoint that the run itself wrote; a fork's first one is its parent's."""
    checkpoint, forked = newest_checkpoint(run), forked_from(run)
    if checkpoint is None or (forked and checkpoint_step(checkpoint) <= forked.parent_step):
        return None
    return checkpoint


def remarks(run: RunDirectory, config: RunConfig) -> Iterator[str]:
    """Warnings for a run that resumes on this machine."""
    for reason in damaged_checkpoints(run):
        yield f"a damaged checkpoint was skipped: {reason}"
    checkpoint = _own_checkpoint(run)
    unknown = [f"loss.{name}.file" for name, loss in config.loss.items() if loss.file]
    if checkpoint and unknown and LOSS_FILES not in read_manifest(checkpoint):
        yield f"no SHA-256 was recorded to compare with, make sure it has not changed: {', '.join(unknown)}"
    before, now = read_toml(run.config_file).get("machine", {}), machine_facts(resolve_device(config.train.device))
    if changed := changed_facts(before, now):
        yield f"not bit for bit reproducible, since the machine differs: {'; '.join(changed)}"
