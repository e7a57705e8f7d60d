"""Decide whether a run reads teacher embeddings from disk, and whether they are computed first."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from workbench.cache.entries import require_room
from workbench.config.run import RunConfig, check_cacheable, check_candidates
from workbench.data.batches import BatchStream
from workbench.engine.device import changed_facts, machine_facts
from workbench.engine.teacher_cache.build import Builder
from workbench.engine.teacher_cache.manifest import CACHES, Identity, why_missing
from workbench.engine.teacher_cache.store import TeacherCache, find_cache
from workbench.engine.teacher_outputs import fits_in_memory
from workbench.errors import print_error
from workbench.files import write_failure
from workbench.formatting import size
from workbench.losses.objective import Objective
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers

AUTO_BYTES = 10_000_000_000  # the largest cache that ``auto`` builds
SPARE = 2  # times its size must be free for that


class Opened(NamedTuple):
    """The cache of a teacher that a run reads, if any, and warnings about it."""

    cache: TeacherCache | None = None
    notes: tuple[str, ...] = ()


def each_teacher(config: RunConfig, teacher: Teachers) -> Iterator[tuple[RunConfig, Teacher]]:
    """Each of the run's teachers, with the config of a run that has this one alone: their caches are the same."""
    for part, member in zip(config.teacher.teachers, teacher.members, strict=True):
        own = config.teacher.model_copy(update={"model": part.spec})
        yield config.model_copy(update={"teacher": own}), member


def open_caches(
    config: RunConfig, stream: BatchStream, teacher: Teachers | None, objectives: Sequence[Objective]
) -> list[Opened]:
    """The cache of each of a run's teachers under ``teacher.cache``: a complete one, built now if necessary, or none.

    ``auto`` reads an existing one. It builds one only if :func:`is_worth_building` and the disk has room, or if a loss
    compares with all training pairs.

    Raises:
        ValueError: ``on``, and the embeddings cannot be cached, with the remedy.
    """
    check_candidates(config)
    asked = config.teacher.cache
    if asked == "auto" and any(objective.needs_candidates for objective in objectives):
        asked = "on"
    if asked == "on":
        check_keepable(config, objectives)
    is_live = any(objective.features for objective in objectives) or not stream.views
    needs_teacher = config.curation.method != "off" or any(objective.needs_teacher for objective in objectives)
    if teacher is None:
        return []
    if asked == "off" or is_live or not needs_teacher:
        return [Opened() for _ in teacher.members]
    return [_open(own, stream, member, is_asked=asked == "on") for own, member in each_teacher(config, teacher)]


def _open(config: RunConfig, stream: BatchStream, teacher: Teacher, *, is_asked: bool) -> Opened:
    if is_asked:
        builder = Builder(config, stream, teacher)
        cache = find_cache(builder.identity)
        return _with_note(cache or _build(builder, why_missing(builder.identity)), teacher)
    if CACHES.home.is_dir() and (cache := find_cache(Identity.of(config, stream.dataset, teacher))):
        return _with_note(cache, teacher)
    num_reads = config.train.num_steps * config.pairs_per_step
    if not is_worth_building(len(stream.dataset) * stream.views, teacher.width, num_reads):
        return Opened()
    return _build_for_auto(Builder(config, stream, teacher), teacher)


def is_worth_building(num_rows: int, width: int, num_reads: int) -> bool:
    """Whether a cache of ``num_rows`` rows saves more teacher forwards than building it takes."""
    # Where all rows fit in memory, a live teacher embeds each one once too.
    return num_rows < num_reads and not fits_in_memory(num_rows, width)


def repair(config: RunConfig, stream: BatchStream, teacher: Teacher) -> TeacherCache:
    """The cache of a run, existing or built now; damaged blocks are rebuilt.

    Prints the reason, size and time to stderr.

    Raises:
        ValueError: it cannot be built, with the remedy.
    """
    builder = Builder(config, stream, teacher)
    cache = find_cache(builder.identity)
    if cache is None:
        return _build(builder, why_missing(builder.identity))
    damaged = cache.damaged()
    blocks = len(builder.manifest.blocks)
    return _build(builder, f"{len(damaged)} of its {blocks} blocks are damaged") if damaged else cache


def _build(builder: Builder, why: str) -> TeacherCache:
    estimate, is_position_independent = builder.forecast()
    print_error(f"workbench: teacher cache: {why}; building it takes {estimate}")
    if not is_position_independent and builder.identity.dtype == "float32":
        # Fewer rows than now, never more: a forward has at most one batch.
        rows = max(16, (builder.identity.teacher.chunk_size - 1) // 16 * 16)
        print_error(
            "workbench: teacher cache: here the last bits of a row depend on its position in a forward, so live and "
            f"cached runs differ in them: --set teacher.chunk_size={rows} avoids that"
        )
    try:
        return builder.build(f"teacher cache, {estimate}")
    except OSError as error:
        raise ValueError(
            f"no teacher cache in {CACHES.home} ({write_failure(error)}): make room, or name another folder in "
            "WORKBENCH_CACHE; --cache-teacher off runs the teacher live"
        ) from None


def _build_for_auto(builder: Builder, teacher: Teacher) -> Opened:
    """Build a cache for ``auto``: a failure is a note, and the teacher runs live."""
    num_bytes = builder.manifest.size_bytes
    try:
        if num_bytes > AUTO_BYTES:
            raise ValueError(f"its cache would take {size(num_bytes)}, which --cache-teacher on builds")
        require_room(CACHES.home, SPARE * num_bytes)
        return _with_note(_build(builder, why_missing(builder.identity)), teacher)
    except OSError as error:
        return Opened(notes=(f"the teacher runs live, since its embeddings cannot be cached: {write_failure(error)}",))
    except ValueError as error:
        return Opened(notes=(f"the teacher runs live: {error}",))


def check_keepable(config: RunConfig, objectives: Sequence[Objective]) -> None:
    """Refuse ``teacher.cache = on`` where it is impossible.

    Raises:
        ValueError: no teacher, a new view in every epoch, or a loss on intermediate features of the teacher.
    """
    check_cacheable(config)
    names = sorted({name for objective in objectives for name in objective.features})
    if names:
        raise ValueError(
            f"loss.{names[0]} compares intermediate features of the teacher, which are not cached: leave the cache at "
            f"auto, or drop it with --set loss.{names[0]}.weight=0"
        )


def _with_note(cache: TeacherCache, teacher: Teacher) -> Opened:
    """The cache, and a note where it was built on another machine."""
    changed = changed_facts(cache.manifest.machine, machine_facts(teacher.scale.device))
    if not changed or cache.manifest.identity.dtype != "float32":
        return Opened(cache)
    return Opened(cache, (f"teacher cache: last bits may differ from a live teacher: {'; '.join(changed)}",))
