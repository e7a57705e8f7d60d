"""Build a cohort from run configs: models, data, losses, evaluators and the teacher cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from workbench.config.run import INHERITED, RunConfig
from workbench.config.teacher import TeacherConfig
from workbench.data.batches import BatchStream
from workbench.data.cached.prepare import CachePolicy, Prepare, cached
from workbench.data.check import preflight
from workbench.data.detection.spec import DetectionData, open_detection
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.spec import Role, evaluated_splits, is_remote, open_dataset, sample_set_of
from workbench.data.synthetic import with_synthetic
from workbench.embeddings import SIGMOID_BIAS, SIGMOID_SCALE
from workbench.engine.cadence import Phase
from workbench.engine.checkpoint import check_room
from workbench.engine.cohort import Cohort
from workbench.engine.device import check_half, has_batch_norm, placed, resolve_device, resolved, set_determinism
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.evaluate import Evaluator
from workbench.engine.member import Member
from workbench.engine.resume import Start, check_same_inputs, restore_together
from workbench.engine.stages import inherited_student, make_state
from workbench.engine.state import TrainState
from workbench.engine.teacher_cache.choice import open_caches
from workbench.errors import set_by
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.losses.base import Widths, numbered
from workbench.losses.learned import LearnedParts
from workbench.losses.objective import Objective
from workbench.models.clip import Clip
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import TeacherGroup, Teachers
from workbench.progress import phase
from workbench.randomness import derive_seed
from workbench.runs.directory import RunDirectory

# Tables of the config in which members of a cohort must agree.
SHARED = ("data", "teacher", "train", "curation", "evaluate", "dense")


def build_cohort(
    configs: Mapping[str, RunConfig],
    directories: Mapping[str, RunDirectory] | None = None,
    *,
    runs_dir: Path = Path("runs"),
    resume: bool = False,
    like: Cohort | None = None,
    ranks: Ranks = ALONE,
) -> Cohort:
    """The runs in ``configs``, by id, as one cohort.

    Args:
        directories: of each run; a run without one saves nothing.
        resume: continue from each run's newest intact checkpoint, or from its parent's if it is a fork.
        like: an earlier cohort, such as another seed's, whose teacher and evaluators are reused if they can be.
        ranks: the processes that train it together. All read the runs' directories, and the first alone writes there.

    Raises:
        ValueError: invalid settings or members that cannot share, with the remedy.
    """
    directories = directories or {}
    configs = {run: resolved(config) for run, config in configs.items()}
    first = next(iter(configs.values()))
    _check_shared(configs)
    device = resolve_device(first.train.device)
    set_determinism(first.train.deterministic, device)
    reused = like if like and _same_evaluation(like.members[0].config, first) else None
    with set_by("teacher.model"):
        teacher = reused.teacher if reused else load_teacher(first, device, runs_dir)
    ranks = replace(ranks, batch_size=first.train.batch_size)
    members = [
        _member(run, config, teacher, device, directories.get(run), runs_dir, ranks) for run, config in configs.items()
    ]
    check_room(members)  # before the data are opened, which may take minutes
    if not ranks.is_first:
        ranks.of_first(None)  # waits until rank 0 has made the caches that it will read
    stream, data_notes = _open_training_data(first, members, teacher)
    _record_inputs(members, stream, teacher, resume=resume)
    opened = open_caches(first, stream, teacher, [member.objective for member in members])
    # No images are decoded for a teacher whose embeddings are on disk.
    live = tuple(spec for spec, one in zip(stream.teachers, opened, strict=False) if one.cache is None)
    evaluators = reused.evaluators if reused else _evaluators(first, teacher, device, ranks)
    if ranks.is_first:
        ranks.of_first(None)
    _check_same_data(ranks, stream, evaluators)
    detection = _detection(first, like)
    start = restore_together(members) if resume else Start()
    ranks.check_equal("checkpoints of the run", start.step)  # an old copy of the runs folder, on another machine
    return Cohort(
        members if ranks.is_first else _unsaved(members),
        replace(stream, teachers=live),
        teacher,
        evaluators,
        caches=[one.cache for one in opened],
        start=start,
        device=device,
        ranks=ranks,
        notes=(
            *_notes(first, len(stream.dataset), evaluators),
            *data_notes,
            *(note for one in opened for note in one.notes),
        ),
        detection=detection,
    )


def _record_inputs(members: Sequence[Member], stream: BatchStream, teacher: Teachers | None, *, resume: bool) -> None:
    """Note the data and the teacher in every member; a resumed one must have had the same.

    Raises:
        ValueError: they have changed since the run started.
    """
    for member in members:
        member.data_fingerprint = stream.dataset.fingerprint
        member.teacher = teacher.facts() if teacher else {}
        if resume and member.directory:
            check_same_inputs(member.directory, member)


def _unsaved(members: list[Member]) -> list[Member]:
    """The members of a rank that writes nothing."""
    for member in members:
        member.directory = None
    return members


def _open_training_data(
    config: RunConfig, members: Sequence[Member], teacher: Teachers | None
) -> tuple[BatchStream, tuple[str, ...]]:
    """The batches of a cohort, and notes about its data."""
    student_spec = members[0].state.student.input_spec
    if any(member.state.student.input_spec != student_spec for member in members):
        raise ValueError("students of one cohort need the same image size and tokenizer: train them separately")
    needs_teacher = config.curation.method != "off" or any(member.objective.needs_teacher for member in members)
    teacher_specs = tuple(one.input_spec for one in teacher.members) if teacher and needs_teacher else ()
    data, train, ranks = config.data, config.train, members[0].ranks
    assert data.num_workers != "auto"  # resolved
    policy = CachePolicy(
        data.prepare,
        data.working_size,
        num_reads=train.num_steps * config.pairs_per_step,
        input_specs=(student_spec, *teacher_specs),
        num_views=data.views,
        seed=data.seed,
        crop_scale=data.crop_scale,
    )
    with set_by("data.train"), phase(f"opening the training pairs, {data.train}"):
        opened = open_dataset(data.train, "train", data.num_pairs, data.bad_shards)
        dataset, notes = cached(with_synthetic(opened, data.synthetic_captions), policy)
    stream = BatchStream(
        dataset,
        student_spec,
        teacher_specs,
        batch_size=config.pairs_per_step,
        seed=data.seed,
        views=data.views,
        crop_scale=data.crop_scale,
        synthetic_captions=data.synthetic_captions,
        num_workers=data.num_workers,
        window=data.shuffle_window if data.order == "windows" else 0,
        masks={key: make for member in members for key, make in member.masks.items()},
        part=ranks.rows(config.pairs_per_step),
    )
    checked = preflight(dataset, student_spec, config.pairs_per_step) if train.num_steps else []
    return stream, (*checked, *notes)


def _detection(config: RunConfig, like: Cohort | None) -> DetectionData | None:
    """The images with boxes of a run, those of the earlier cohort if they are the same; None if it has none."""
    if not config.dense.is_on:
        return None
    if like and like.members[0].config.dense == config.dense:
        return like.detection
    with phase(f"opening the detection images, {config.dense.data}"):
        return open_detection(config.dense)


def _same_evaluation(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs have the same teacher and the same evaluation."""
    same_pairs = evaluated_splits(one.data) == evaluated_splits(other.data)
    same_parts = all(getattr(one, part) == getattr(other, part) for part in ("teacher", "evaluate"))
    same_rows = teacher_rows(one) == teacher_rows(other)
    same_device = one.train.device == other.train.device and one.train.precision == other.train.precision
    return same_pairs and same_parts and same_rows and same_device


def _notes(config: RunConfig, num_pairs: int, evaluators: Mapping[Role, Evaluator]) -> Iterator[str]:
    """Warnings about the run's data, for its start."""
    data = config.data
    yield from (f"{split}: {evaluator.pairs.note}" for split, evaluator in evaluators.items() if evaluator.pairs.note)
    if not evaluators and not config.dense.is_on:
        yield "nothing is evaluated: name held-out pairs with --set data.validation=SPEC"
    if data.order == "shuffle" and is_remote(data.train):
        yield "unless WORKBENCH_REMOTE_GB holds all shards, they are copied again and again: --set data.order=windows"
    if num_pairs == data.num_pairs and config.train.num_steps and not sample_set_of(data.train):
        yield f"only the first {num_pairs:,} pairs are trained on: --set data.num_pairs=0 takes all"


def load_teacher(config: RunConfig, device: torch.device, runs_dir: Path) -> Teachers | None:
    """The teacher of a config, on the device, or the group of its teachers; None where it names none."""
    precision, rows = resolved(config).train.precision, teacher_rows(config)
    members = []
    for spec, _ in config.teacher.teachers:
        with phase(f"loading the teacher, {spec}"):
            model = placed(load_model(spec, runs_dir=runs_dir), device)
        if precision == "fp16":
            check_half(model, device, f"the teacher {spec}")
        members.append(Teacher(model, rows, precision))
    return grouped(members, config.teacher)


def grouped(members: Sequence[Teacher], config: TeacherConfig) -> Teachers | None:
    """The teachers as one; None if there is none."""
    if len(members) < 2:
        return members[0] if members else None
    return TeacherGroup(members, [part.ratio for part in config.teachers], config.scales, config.combine)


def teacher_rows(config: RunConfig) -> int:
    """Rows of each forward of the teacher: ``teacher.chunk_size``, but not more than a batch."""
    # Batches of 5 to 11 pairs are padded to 12 rows. Smaller matrix products use other kernels, and live and cached
    # embeddings would differ in their last bits (see Teacher.is_position_independent).
    batch_size = config.train.batch_size
    return min(config.teacher.chunk_size, 12 if 4 < batch_size < 12 else batch_size)


def _check_same_data(ranks: Ranks, stream: BatchStream, evaluators: Mapping[Role, Evaluator]) -> None:
    """Refuse ranks whose pairs differ, since each reads some rows of what must be one batch or one set."""
    ranks.check_equal("pairs of data.train", (stream.dataset.fingerprint, len(stream.dataset)))
    for split, evaluator in evaluators.items():  # the number: an image may be unreadable on one machine alone
        ranks.check_equal(f"pairs of data.{split}", (evaluator.pairs.fingerprint, evaluator.pairs.num_images))


def _evaluators(
    config: RunConfig, teacher: Teachers | None, device: torch.device, ranks: Ranks
) -> dict[Role, Evaluator]:
    """The evaluators of a run, by split."""
    made: dict[Role, Evaluator] = {}
    for split, spec, number in evaluated_splits(config.data):
        with set_by(f"data.{split}"):
            made[split] = make_evaluator(
                config,
                spec,
                split,
                number,
                teacher,
                device,
                prepare=config.data.prepare,
                cache=config.teacher.cache,
                ranks=ranks,
            )
    return made


def make_evaluator(
    config: RunConfig,
    spec: str,
    role: Role,
    num_pairs: int,
    teacher: Teachers | None,
    device: torch.device,
    *,
    prepare: Prepare = "off",
    cache: Literal["auto", "on", "off"] = "off",
    block_size: int | None = None,
    ranks: Ranks = ALONE,
) -> Evaluator:
    """An evaluator on the pairs of a SPEC.

    Args:
        block_size: retrieval gallery size, 0 for all images; by default the config's.
    """
    with phase(f"opening the {role} pairs, {spec}"):
        pairs = open_evaluation_set(spec, role, num_pairs, prepare, config.data.bad_shards)
    block_size = config.evaluate.block_size if block_size is None else block_size
    return Evaluator(
        pairs,
        teacher,
        pairs.task,
        block_size=block_size,
        device=device,
        cache=cache,
        name=role,
        precision=config.train.precision,
        ranks=ranks,
    )


def _check_shared(configs: Mapping[str, RunConfig]) -> None:
    first = next(iter(configs.values()))
    for run, config in configs.items():
        for part in SHARED:
            if getattr(config, part) != getattr(first, part):
                raise ValueError(f"run {run} differs from its cohort in [{part}]: train it separately")


def _member(
    run: str,
    config: RunConfig,
    teacher: Teachers | None,
    device: torch.device,
    directory: RunDirectory | None,
    runs_dir: Path,
    ranks: Ranks,
) -> Member:
    objective = make_objective(config, teacher)
    student, inheritance_map = _student(config, runs_dir)
    if objective.needs_bias and student.bias is None:
        student.add_bias_(SIGMOID_SCALE, SIGMOID_BIAS)
    if ranks.size > 1 and has_batch_norm(student):
        raise ValueError(
            "batch normalization over several ranks would use each rank's statistics: train this student on one GPU, "
            "or choose a tower without batch normalization, such as a ViT"
        )
    if config.train.micro_batch_size and has_batch_norm(student):
        raise ValueError(
            "micro-batches are not exact for a tower with batch normalization: set train.micro_batch_size=0"
        )
    if ranks.size > 1 and config.curation.method != "off":
        raise ValueError(
            "curation chooses a batch among pairs of which each rank holds a part: train this run on one GPU, or set "
            "curation.method=off"
        )
    _check_masking(objective, student)

    def state_of(student: Clip, phase: Phase, inheritance_map: InheritanceMap | None) -> TrainState:
        return make_state(student, _learned_parts(config, objective, student, teacher), config, phase, inheritance_map)

    if config.train.precision == "fp16":
        check_half(placed(student, device), device, f"the student {config.student.model}")
    member = Member(run, config, placed(student, device), objective, state_of, directory, inheritance_map, ranks)
    widths = student.width, teacher.width if teacher else None
    objective.try_users_losses(member.state.learned, config.train.batch_size, widths, device)
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


def _learned_parts(config: RunConfig, objective: Objective, student: Clip, teacher: Teachers | None) -> LearnedParts:
    # A seed of their own, so that initializing them leaves the global random state, and with it the run, unchanged.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "learnt parts"))
        learned = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    return learned.to(student.scale.device)


def make_objective(config: RunConfig, teacher: Teachers | None) -> Objective:
    """The losses of a run, their weights translated to its batch size and teacher width."""
    train, width = config.train, teacher.width if teacher else None
    chunk_size = None if train.loss_chunk_size == "auto" else train.loss_chunk_size
    in_tf32 = train.loss_precision == "tf32"
    return Objective(config.loss, train.batch_size, width, chunk_size, train.num_steps, in_tf32=in_tf32)


def learned_widths(objective: Objective, student: Clip, teacher: Teachers | None) -> Widths:
    """Widths for the learned parts of losses; those of blocks only where a loss compares intermediate features."""
    width = teacher.width if teacher else None
    if not objective.features or teacher is None:
        return Widths(student.width, width)
    return Widths(student.width, width, numbered(student.block_widths), numbered(teacher.block_widths))


def _check_masking(objective: Objective, student: Clip) -> None:
    masking = objective.masking
    keys = [key for request in objective.features.values() for key in request.student]
    if masking and masking.feeds_all and student.drops_tokens and any(key.form != "pooled" for key in keys):
        raise ValueError(
            "the patches that masking keeps are not a grid to compare: set loss.intermediate.form=pooled, "
            "or loss.mfd.mask_feeds=mfd"
        )
