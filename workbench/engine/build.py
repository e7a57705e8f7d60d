"""From configs to a cohort that is ready to train."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from workbench.config.run import INHERITED, DataConfig, RunConfig
from workbench.data.batches import BatchStream
from workbench.data.cached.prepare import Prepare, Use, open_prepared
from workbench.data.check import preflight
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.sources.tar import BadShards
from workbench.data.spec import Role, evaluated_splits, sample_set_of
from workbench.engine.cadence import Phase
from workbench.engine.checkpoint import check_room
from workbench.engine.cohort import Cohort
from workbench.engine.device import has_batch_norm, placed, resolve_device, settled
from workbench.engine.evaluate import Evaluator
from workbench.engine.member import Member
from workbench.engine.precheck import set_by
from workbench.engine.resume import Start, check_same_inputs, restore_together
from workbench.engine.stages import inherited_student, make_state
from workbench.engine.state import TrainState
from workbench.engine.teacher_cache.choice import open_cache
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.losses.base import Widths, numbered
from workbench.losses.learnt import LearnedParts
from workbench.losses.objective import Objective
from workbench.losses.rehearsal import rehearse
from workbench.models.clip import Clip
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.process import check_single_process
from workbench.progress import phase
from workbench.randomness import derive_seed
from workbench.runs.directory import RunDirectory

SHARED = ("data", "teacher", "train", "evaluate")  # what the members of a cohort must have in common


def build_cohort(
    configs: Mapping[str, RunConfig],
    directories: Mapping[str, RunDirectory] | None = None,
    *,
    runs_dir: Path = Path("runs"),
    resume: bool = False,
    like: Cohort | None = None,
) -> Cohort:
    """The runs in ``configs``, by id, as one cohort.

    Args:
        directories: where each run is kept; a run without one leaves nothing behind.
        runs_dir: where ``run:ID`` models are looked up.
        resume: go on from every run's newest whole checkpoint, or from its parent's if it is a fork.
        like: a cohort before this one, such as another seed's; its teacher and what that said of the held-out pairs
            are used again where the settings are the same.

    Raises:
        ValueError: settings that cannot be, with the remedy: unknown names, a batch larger than the data, members that
            differ in what a cohort shares; or this process is one of several ranks.
    """
    check_single_process()
    directories = directories or {}
    configs = {run: settled(config) for run, config in configs.items()}
    first = next(iter(configs.values()))
    _check_shared(configs)
    device = resolve_device(first.train.device)
    reused = like if like and _measures_alike(like.members[0].config, first) else None
    with set_by("teacher.model"):
        teacher = reused.teacher if reused else load_teacher(first, device, runs_dir)
    members = [_member(run, config, teacher, device, directories.get(run), runs_dir) for run, config in configs.items()]
    form = members[0].state.student.form
    if any(member.state.student.form != form for member in members):
        raise ValueError("students of one cohort take pictures of one size and share a tokenizer: train them apart")
    check_room(members)
    teacher_form = teacher.form if teacher and any(member.objective.needs_teacher for member in members) else None
    use = Use(
        first.data.prepare,
        first.data.working_size,
        num_reads=first.train.num_steps * first.train.batch_size,
        forms=(form, teacher_form) if teacher_form else (form,),
        bad_shards=first.data.bad_shards,
    )
    with set_by("data.train"), phase(f"opening the training pairs, {first.data.train}"):
        dataset, kept_notes = open_prepared(first.data.train, "train", first.data.num_pairs, use)
    for member in members:
        member.data_fingerprint = dataset.fingerprint
        member.teacher = teacher.facts() if teacher else {}
        if resume and member.directory:
            check_same_inputs(member.directory, dataset.fingerprint, member.teacher)
    stream = BatchStream(
        dataset,
        form,
        teacher_form,
        batch_size=first.train.batch_size,
        seed=first.data.seed,
        views=first.data.views,
        crop_scale=first.data.crop_scale,
        num_workers=first.data.num_workers,
    )
    kept = open_cache(first, stream, teacher, [member.objective for member in members])
    remarks = preflight(dataset, form, first.train.batch_size)
    evaluators = reused.evaluators if reused else _evaluators(first, teacher, device)
    for member in members:
        member.held_out = {split: evaluator.pairs.fingerprint for split, evaluator in evaluators.items()}
    return Cohort(
        members,
        replace(stream, teacher=None) if kept.cache else stream,
        teacher,
        evaluators,
        kept=kept.cache,
        num_pairs=len(dataset),
        start=restore_together(members) if resume else Start(),
        device=device,
        notes=(*_notes(first.data, len(dataset), evaluators), *remarks, *kept_notes, *kept.notes),
    )


def _measures_alike(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs have one teacher and are measured on the same pairs in the same way."""
    same_pairs = evaluated_splits(one.data) == evaluated_splits(other.data)
    same_parts = all(getattr(one, part) == getattr(other, part) for part in ("teacher", "evaluate"))
    same_rows = teacher_rows(one) == teacher_rows(other)
    return same_pairs and same_parts and same_rows and one.train.device == other.train.device


def _notes(data: DataConfig, num_pairs: int, evaluators: Mapping[Role, Evaluator]) -> Iterator[str]:
    """What a person should know before the run is long under way."""
    yield from (f"{split}: {evaluator.pairs.note}" for split, evaluator in evaluators.items() if evaluator.pairs.note)
    if not evaluators:
        yield "nothing is evaluated: name held-out pairs with --set data.validation=SPEC"
    if num_pairs == data.num_pairs and not sample_set_of(data.train):
        yield f"only the first {num_pairs:,} pairs are trained on: --set data.num_pairs=0 takes all"


def load_teacher(config: RunConfig, device: torch.device, runs_dir: Path) -> Teacher | None:
    """The teacher a config names, on the device; None where it names none."""
    if not config.teacher.model:
        return None
    with phase(f"loading the teacher, {config.teacher.model}"):
        model = load_model(config.teacher.model, runs_dir=runs_dir)
    return Teacher(placed(model, device), teacher_rows(config), settled(config).train.precision)


def teacher_rows(config: RunConfig) -> int:
    """Rows of every forward of the teacher: ``teacher.chunk_size``, but no more than the batch fills.

    Batches of 5 to 11 pairs are padded to 12 rows, so that live and cached rows stay the same to the bit
    (:meth:`~workbench.models.teacher.Teacher.is_place_free`).
    """
    batch_size = config.train.batch_size
    return min(config.teacher.chunk_size, 12 if 4 < batch_size < 12 else batch_size)


def _evaluators(config: RunConfig, teacher: Teacher | None, device: torch.device) -> dict[Role, Evaluator]:
    """What measures the students of a run, by split."""
    made: dict[Role, Evaluator] = {}
    for split, spec, number in evaluated_splits(config.data):
        with set_by(f"data.{split}"):
            block_size, data = config.evaluate.block_size, config.data
            made[split] = make_evaluator(
                spec, split, number, teacher, block_size, device, data.prepare, config.teacher.cache, data.bad_shards
            )
    return made


def make_evaluator(
    spec: str,
    role: Role,
    num_pairs: int,
    teacher: Teacher | None,
    block_size: int,
    device: torch.device,
    prepare: Prepare = "off",
    cache: Literal["auto", "on", "off"] = "off",
    bad_shards: BadShards = "refuse",
) -> Evaluator:
    """What measures students on the pairs of a SPEC."""
    with phase(f"opening the {role} pairs, {spec}"):
        pairs = open_evaluation_set(spec, role, num_pairs, prepare, bad_shards)
    return Evaluator(pairs, teacher, pairs.task, block_size=block_size, device=device, cache=cache, name=role)


def _check_shared(configs: Mapping[str, RunConfig]) -> None:
    first = next(iter(configs.values()))
    for run, config in configs.items():
        for part in SHARED:
            if getattr(config, part) != getattr(first, part):
                raise ValueError(f"run {run} differs from its cohort in [{part}]: train it apart")


def _member(
    run: str,
    config: RunConfig,
    teacher: Teacher | None,
    device: torch.device,
    directory: RunDirectory | None,
    runs_dir: Path,
) -> Member:
    objective = make_objective(config, teacher)
    student, inheritance_map = _student(config, runs_dir)
    if config.train.micro_batch_size and has_batch_norm(student):
        raise ValueError(
            "micro-batches are not exact for a tower with batch normalisation: set train.micro_batch_size=0"
        )
    _check_masking(objective, student)

    def state_of(student: Clip, phase: Phase, inheritance_map: InheritanceMap | None) -> TrainState:
        return make_state(student, _learned_parts(config, objective, student, teacher), config, phase, inheritance_map)

    member = Member(run, config, placed(student, device), objective, state_of, directory, inheritance_map)
    widths = student.width, teacher.width if teacher else None
    rehearse(objective, member.state.learnt, config.train.batch_size, widths, device)
    return member


def _student(config: RunConfig, runs_dir: Path) -> tuple[Clip, InheritanceMap | None]:
    if config.student.model == INHERITED:
        name = config.inheritance.source or config.teacher.model
        with set_by("inheritance.source"), phase(f"loading {name}"):
            source = load_model(name, runs_dir=runs_dir)
        return inherited_student(config, source)
    with set_by("student.model"), phase(f"loading the student, {config.student.model}"):
        model, tokenizer = config.student.model, config.student.tokenizer
        return load_model(model, seed=config.seed, tokenizer=tokenizer, runs_dir=runs_dir), None


def _learned_parts(config: RunConfig, objective: Objective, student: Clip, teacher: Teacher | None) -> LearnedParts:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "learnt parts"))
        learnt = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    return learnt.to(student.scale.device)


def make_objective(config: RunConfig, teacher: Teacher | None) -> Objective:
    """The losses of a run, weighted for its batch and its teacher's width."""
    chunk_size = config.train.loss_chunk_size
    width = teacher.width if teacher else None
    return Objective(config.loss, config.train.batch_size, width, None if chunk_size == "auto" else chunk_size)


def learned_widths(objective: Objective, student: Clip, teacher: Teacher | None) -> Widths:
    """What decides the shapes of what the losses learn; blocks are looked into only for losses that do so too."""
    width = teacher.width if teacher else None
    if not objective.features or teacher is None:
        return Widths(student.width, width)
    return Widths(student.width, width, numbered(student.block_widths), numbered(teacher.block_widths))


def _check_masking(objective: Objective, student: Clip) -> None:
    masking = objective.masking
    keys = [key for request in objective.features.values() for key in request.student]
    if masking and masking.feeds_all and student.drops_tokens and any(key.form != "pooled" for key in keys):
        raise ValueError(
            "the patches that a mask leaves form no grid to compare: set loss.intermediate.form=pooled, "
            "or loss.mfd.mask_feeds=mfd"
        )
