"""From configs to a cohort that is ready to train."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from workbench.config.run import DataConfig, RunConfig
from workbench.data.batches import BatchStream
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.samples.registry import zero_shot_task
from workbench.data.spec import Role, open_dataset
from workbench.engine.checkpoint import load_checkpoint
from workbench.engine.cohort import Cohort
from workbench.engine.device import resolve_device
from workbench.engine.evaluation import Evaluator
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.losses.learnt import LearntParts
from workbench.losses.objective import Objective
from workbench.models.clip import Clip
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.randomness import derive_seed
from workbench.runs.checkpoints import newest_checkpoint
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
        resume: go on from the newest whole checkpoint of the (single) run.
        like: a cohort before this one, such as another seed's; its teacher and what that said of the held-out pairs
            are used again where the settings are the same.

    Raises:
        ValueError: settings that cannot be, with the remedy: unknown names, a batch larger than the data, members that
            differ in what a cohort shares.
    """
    directories = directories or {}
    first = next(iter(configs.values()))
    _check_shared(configs)
    device = resolve_device(first.train.device)
    reused = like if like and _measures_alike(like.members[0].config, first) else None
    teacher = reused.teacher if reused else load_teacher(first, device, runs_dir)
    members = [_member(run, config, teacher, device, directories.get(run), runs_dir) for run, config in configs.items()]
    form = members[0].state.student.form
    if any(member.state.student.form != form for member in members):
        raise ValueError("students of one cohort take pictures of one size and share a tokenizer: train them apart")
    dataset = open_dataset(first.data.train, "train", first.data.num_pairs)
    stream = BatchStream(
        dataset,
        form,
        teacher.form if teacher and any(member.objective.needs_teacher for member in members) else None,
        batch_size=first.train.batch_size,
        seed=first.data.seed,
        views=first.data.views,
        crop_scale=first.data.crop_scale,
        num_workers=first.data.num_workers,
    )
    evaluators = (
        reused.evaluators
        if reused
        else {
            split: make_evaluator(spec, split, number, teacher, first.evaluate.block_size, device)
            for split, spec, number in evaluated_splits(first.data)
        }
    )
    return Cohort(
        members,
        stream,
        teacher,
        evaluators,
        num_pairs=len(dataset),
        start_step=_restore(members) if resume else None,
        device=device,
        notes=tuple(_notes(first.data, len(dataset), bool(evaluators))),
    )


def _measures_alike(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs have one teacher and are measured on the same pairs in the same way."""
    same_pairs = evaluated_splits(one.data) == evaluated_splits(other.data)
    same_parts = all(getattr(one, part) == getattr(other, part) for part in ("teacher", "evaluate"))
    return same_pairs and same_parts and one.train.device == other.train.device


def _notes(data: DataConfig, num_pairs: int, is_evaluated: bool) -> Iterator[str]:
    """What a person should know before the run is long under way."""
    if not is_evaluated:
        yield "nothing is evaluated: name held-out pairs with --set data.validation=SPEC"
    if num_pairs == data.num_pairs and not data.train.startswith("samples:"):
        yield f"only the first {num_pairs:,} pairs are trained on: --set data.num_pairs=0 takes all"


def load_teacher(config: RunConfig, device: torch.device, runs_dir: Path) -> Teacher | None:
    """The teacher a config names, on the device; None where it names none."""
    if not config.teacher.model:
        return None
    model = load_model(config.teacher.model, runs_dir=runs_dir).to(device)
    return Teacher(model, config.teacher.chunk_size, config.train.precision)


def evaluated_splits(data: DataConfig) -> list[tuple[Role, str, int]]:
    """(split, SPEC, number of pairs) of what is measured; "auto" is a sample set's own split, and nothing elsewhere."""
    own = data.train.split("/")[0] if data.train.startswith("samples:") else ""
    named: tuple[tuple[Role, str, int], ...] = (
        ("validation", data.validation, data.num_validation_pairs),
        ("test", data.test, data.num_test_pairs),
    )
    chosen = ((split, own if spec == "auto" else spec, number) for split, spec, number in named)
    return [(split, spec, number) for split, spec, number in chosen if spec]


def make_evaluator(
    spec: str, role: Role, num_pairs: int, teacher: Teacher | None, block_size: int, device: torch.device
) -> Evaluator:
    """What measures students on the pairs of a SPEC."""
    pairs = open_evaluation_set(spec, role, num_pairs)
    task = zero_shot_task(spec.removeprefix("samples:").split("/")[0]) if spec.startswith("samples:") else None
    return Evaluator(pairs, teacher, task, block_size=block_size, device=device)


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
    width = teacher.width if teacher else None
    objective = Objective(config.loss, config.train.batch_size, width)
    student = load_model(config.student.model, seed=config.seed, tokenizer=config.student.tokenizer, runs_dir=runs_dir)
    if config.train.micro_batch_size and _has_batch_norm(student):
        raise ValueError(
            "micro-batches are not exact for a tower with batch normalisation: set train.micro_batch_size=0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "learnt parts"))
        learnt = LearntParts(objective.losses, student.width, width)
    state = TrainState(student.to(device), learnt.to(device), config.optimizer)
    return Member(run, config, state, objective, directory)


def _has_batch_norm(student: Clip) -> bool:
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in student.modules())


def _restore(members: list[Member]) -> int | None:
    """Steps that the run has behind it; None for one that has only been created."""
    (member,) = members
    assert member.directory is not None
    if (checkpoint := newest_checkpoint(member.directory)) is not None:
        return load_checkpoint(member, checkpoint)
    return 0 if member.directory.events_file.stat().st_size else None
