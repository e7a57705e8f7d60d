"""Build a teacher cache before any run: for ``workbench teacher cache``, and for studies that share one."""

from pathlib import Path
from typing import NamedTuple

from workbench.config.run import RunConfig
from workbench.data.batches import BatchStream
from workbench.data.images import at_working_size
from workbench.data.spec import evaluated_splits, open_dataset
from workbench.data.synthetic import with_synthetic
from workbench.engine.build import load_teacher, make_evaluator, make_objective
from workbench.engine.device import resolve_device, resolved
from workbench.engine.teacher_cache.choice import check_keepable, each_teacher, repair
from workbench.engine.teacher_cache.store import TeacherCache
from workbench.models.teacher_group import Teachers


class Prepared(NamedTuple):
    """A complete cache of each teacher, and the number of cached held-out pairs by split."""

    caches: list[TeacherCache]
    num_held_out: dict[str, int]


def prepare_cache(config: RunConfig, runs_dir: Path = Path("runs")) -> Prepared:
    """Build or repair the caches that runs of this config read, held-out pairs included.

    Raises:
        ValueError: it cannot be built, with the remedy.
    """
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"cache": "on"})})
    stream, teacher = _open(config, runs_dir)
    caches = [repair(own, stream, member) for own, member in each_teacher(config, teacher)]
    num_held_out: dict[str, int] = {}
    for split, spec, number in evaluated_splits(config.data):
        evaluator = make_evaluator(config, spec, split, number, teacher, teacher.scale.device, cache="on")
        num_held_out[split] = len(evaluator.teacher_pairs())
    return Prepared(caches, num_held_out)


def _open(config: RunConfig, runs_dir: Path) -> tuple[BatchStream, Teachers]:
    """The training pairs and the teacher, or teachers."""
    teacher = load_teacher(config, resolve_device(config.train.device), runs_dir)
    check_keepable(config, [make_objective(config, teacher)])
    num_workers = resolved(config).data.num_workers
    assert teacher is not None and num_workers != "auto"
    dataset = open_dataset(config.data.train, "train", config.data.num_pairs, bad_shards=config.data.bad_shards)
    stream = BatchStream(
        at_working_size(with_synthetic(dataset, config.data.synthetic_captions), config.data.working_size),
        teacher.members[0].input_spec,  # each builder puts that of its own teacher here
        (),
        batch_size=config.train.batch_size,
        seed=config.data.seed,
        views=config.data.views,
        crop_scale=config.data.crop_scale,
        synthetic_captions=config.data.synthetic_captions,
        num_workers=num_workers,
    )
    return stream, teacher
