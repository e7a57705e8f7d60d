"""Decide whether a run reads teacher embeddings from disk, and whether they are computed first."""

from collections.abc import Sequence
from typing import NamedTuple

from workbench.config.run import RunConfig, check_cacheable
from workbench.data.batches import BatchStream
from workbench.engine.device import machine_facts
from workbench.engine.teacher_cache.build import Builder, CacheForecast
from workbench.engine.teacher_cache.identity import Identity
from workbench.engine.teacher_cache.store import TeacherCache, find_cache, home, why_missing
from workbench.engine.teacher_outputs import fits_in_memory
from workbench.errors import print_error
from workbench.files import DiskFullError, write_failure
from workbench.losses.objective import Objective
from workbench.models.teacher import Teacher
from workbench.process import free_bytes

AUTO_BYTES = 10_000_000_000  # the largest cache that ``auto`` builds
SPARE = 2  # times its size must be free for that
BITS = ("torch", "device", "num_threads")  # machine facts that decide the last bits of an embedding


class Opened(NamedTuple):
    """The cache that a run reads, if any, and warnings about it."""

    cache: TeacherCache | None = None
    notes: tuple[str, ...] = ()


def open_cache(
    config: RunConfig,
    stream: BatchStream,
    teacher: Teacher | None,
    objectives: Sequence[Objective],
    *,
    num_cohorts: int = 1,
) -> Opened:
    """The cache of a run under ``teacher.cache``: a complete one, built now if necessary, or none.

    ``auto`` reads an existing one. It builds one only if :func:`is_worth_building` and the disk has room.

    Args:
        num_cohorts: cohorts that will read the same views, in parallel or one after another.

    Raises:
        ValueError: ``on``, and the embeddings cannot be cached, with the remedy.
    """
    asked = config.teacher.cache
    if asked == "on":
        check_keepable(config, objectives)
    is_live = any(objective.features for objective in objectives) or not stream.views
    if asked == "off" or is_live or teacher is None or not any(one.needs_teacher for one in objectives):
        return Opened()
    if asked == "on":
        return _described(make(config, stream, teacher), teacher)
    if home().is_dir() and (cache := find_cache(Identity.of(config, stream.dataset, teacher))):
        return _described(cache, teacher)
    num_reads = config.train.num_steps * config.train.batch_size
    if not is_worth_building(len(stream.dataset) * stream.views, teacher.width, num_reads, num_cohorts):
        return Opened()
    return _build_for_auto(config, stream, teacher)


def is_worth_building(num_rows: int, width: int, num_reads: int, num_cohorts: int = 1) -> bool:
    """Whether a cache of ``num_rows`` rows saves more teacher forwards than building it takes."""
    # A live teacher embeds every row that a cohort reads, or each row once where all fit in memory.
    live = min(num_reads, num_rows) if fits_in_memory(num_rows, width) else num_reads
    return num_rows < num_cohorts * live


def make(config: RunConfig, stream: BatchStream, teacher: Teacher) -> TeacherCache:
    """The cache of a run, existing or built now; prints the reason, size and time to stderr.

    Raises:
        ValueError: it cannot be built, with the remedy.
    """
    builder = Builder(config, stream, teacher)
    if cache := find_cache(builder.identity):
        return cache
    return _make(builder, why_missing(builder.identity))


def repair(config: RunConfig, stream: BatchStream, teacher: Teacher) -> TeacherCache:
    """As :func:`make`, but also verifies an existing cache, and rebuilds damaged blocks."""
    builder = Builder(config, stream, teacher)
    damaged = cache.damaged() if (cache := find_cache(builder.identity)) else []
    if cache and not damaged:
        return cache
    blocks = f"{len(damaged)} of its {builder.manifest.num_blocks} blocks are damaged"
    return _make(builder, blocks if cache else why_missing(builder.identity))


def _make(builder: Builder, why: str) -> TeacherCache:
    forecast = builder.forecast()
    _print(f"teacher cache: {why}; building it takes {forecast}")
    if warning := _place_warning(builder, forecast):
        _print(warning)
    try:
        return builder.build(f"teacher cache, {forecast}")
    except OSError as error:
        raise ValueError(
            f"no teacher cache in {home()} ({write_failure(error)}): make room, or name another folder in "
            "WORKBENCH_CACHE; --cache-teacher off runs the teacher live"
        ) from None


def _build_for_auto(config: RunConfig, stream: BatchStream, teacher: Teacher) -> Opened:
    """Build a cache for ``auto``: a failure is a note, and the teacher runs live."""
    builder = Builder(config, stream, teacher)
    num_bytes = builder.manifest.size_bytes
    try:
        if num_bytes > min(AUTO_BYTES, free_bytes(home()) / SPARE):
            raise DiskFullError(home(), SPARE * num_bytes)
        return _described(_make(builder, why_missing(builder.identity)), teacher)
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


def _described(cache: TeacherCache, teacher: Teacher) -> Opened:
    """The cache, and a note where it was built on another machine."""
    made_on, here = cache.manifest.machine, machine_facts(teacher.scale.device)
    other = [f"{key} was {made_on.get(key)} and is {here[key]}" for key in BITS if made_on.get(key) != here[key]]
    if not other or cache.manifest.identity.dtype != "float32":
        return Opened(cache)
    return Opened(cache, (f"teacher cache: last bits may differ from a live teacher: {'; '.join(other)}",))


def _place_warning(builder: Builder, forecast: CacheForecast) -> str:
    identity = builder.identity
    if forecast.is_place_free or identity.dtype != "float32":
        return ""
    # Fewer rows than now, never more: a forward has at most one batch.
    rows = max(16, (identity.teacher.chunk_size - 1) // 16 * 16)
    return (
        "teacher cache: here the last bits of a row depend on its position in a forward, so live and cached runs "
        f"differ in them: --set teacher.chunk_size={rows} avoids that"
    )


def _print(line: str) -> None:
    print_error(f"workbench: {line}")
