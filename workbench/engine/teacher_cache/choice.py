"""Whether a run reads its teacher's embeddings from disk, and whether it makes them first."""

from collections.abc import Sequence
from typing import NamedTuple

from workbench.config.run import RunConfig
from workbench.data.batches import BatchStream
from workbench.engine.device import machine_facts
from workbench.engine.precheck import check_cacheable
from workbench.engine.teacher_cache.build import Builder, Forecast
from workbench.engine.teacher_cache.identity import Identity
from workbench.engine.teacher_cache.store import TeacherCache, find_cache, home, why_missing
from workbench.engine.teacher_outputs import remembers
from workbench.files import DiskFullError, write_failure
from workbench.limits import free_bytes
from workbench.losses.objective import Objective
from workbench.models.teacher import Teacher
from workbench.terminal import print_error

AUTO_BYTES = 10_000_000_000  # what is kept unasked
SPARE = 2  # times as much must be free for that
BITS = ("torch", "device", "num_threads")  # of the machine: what decides the last bits of an embedding


class Opened(NamedTuple):
    """The cache that a run reads, if any, and what a person should know of it."""

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
    """What ``teacher.cache`` makes of a run: a whole cache, made now if need be, or none.

    ``auto`` takes one that is there. It makes one only where :func:`is_worth_making` says so and there is room.

    Args:
        num_cohorts: processes, or cohorts one after another, that will read the same views.

    Raises:
        ValueError: what was asked for cannot be kept, with the remedy.
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
    if not is_worth_making(len(stream.dataset) * stream.views, teacher.width, num_reads, num_cohorts):
        return Opened()
    return _unasked(config, stream, teacher)


def is_worth_making(num_rows: int, width: int, num_reads: int, num_cohorts: int = 1) -> bool:
    """Whether making a cache of so many rows takes the teacher fewer forwards than it saves.

    Live, every cohort's teacher sees each row that it reads, but once only where memory holds them all.
    """
    live = min(num_reads, num_rows) if remembers(num_rows, width) else num_reads
    return num_rows < num_cohorts * live


def make(config: RunConfig, stream: BatchStream, teacher: Teacher) -> TeacherCache:
    """The cache of a run: the one that is there, or one made now; says on stderr why, how large and how long.

    Raises:
        ValueError: it cannot be made, with the remedy.
    """
    builder = Builder(config, stream, teacher)
    if cache := find_cache(builder.identity):
        return cache
    return _make(builder, why_missing(builder.identity))


def repair(config: RunConfig, stream: BatchStream, teacher: Teacher) -> TeacherCache:
    """As :func:`make`, but reads through a whole cache too, and makes anew what is damaged."""
    builder = Builder(config, stream, teacher)
    damaged = cache.damaged() if (cache := find_cache(builder.identity)) else []
    if cache and not damaged:
        return cache
    blocks = f"{len(damaged)} of its {builder.manifest.num_blocks} blocks are damaged"
    return _make(builder, blocks if cache else why_missing(builder.identity))


def _make(builder: Builder, why: str) -> TeacherCache:
    forecast = builder.forecast()
    _say(f"teacher cache: {why}; making it takes {forecast}")
    if warning := _place_warning(builder, forecast):
        _say(warning)
    try:
        return builder.build(f"teacher cache, {forecast}")
    except OSError as error:
        raise ValueError(
            f"no teacher cache in {home()} ({write_failure(error)}): make room, or name another folder in "
            "WORKBENCH_CACHE; --cache-teacher off runs the teacher live"
        ) from None


def _unasked(config: RunConfig, stream: BatchStream, teacher: Teacher) -> Opened:
    """A cache that nobody asked for is never a reason for a run not to start."""
    builder = Builder(config, stream, teacher)
    num_bytes = builder.manifest.size_bytes
    try:
        if num_bytes > min(AUTO_BYTES, free_bytes(home()) / SPARE):
            raise DiskFullError(home(), SPARE * num_bytes)
        return _described(_make(builder, why_missing(builder.identity)), teacher)
    except OSError as error:
        return Opened(notes=(f"the teacher runs live, for its embeddings are not kept: {write_failure(error)}",))
    except ValueError as error:
        return Opened(notes=(f"the teacher runs live: {error}",))


def check_keepable(config: RunConfig, objectives: Sequence[Objective]) -> None:
    """Refuses to keep what cannot be kept.

    Raises:
        ValueError: there is no teacher, views without number, or a loss that looks inside the teacher.
    """
    check_cacheable(config)
    looking = sorted({name for objective in objectives for name in objective.features})
    if looking:
        raise ValueError(
            f"loss.{looking[0]} looks at the teacher's inner features, which no cache holds: leave the cache at auto, "
            f"or drop it with --set loss.{looking[0]}.weight=0"
        )


def _described(cache: TeacherCache, teacher: Teacher) -> Opened:
    """The cache, and in what the machine differs that began it."""
    made_on, here = cache.manifest.machine, machine_facts(teacher.scale.device)
    other = [f"{key} was {made_on.get(key)} and is {here[key]}" for key in BITS if made_on.get(key) != here[key]]
    if not other or cache.manifest.identity.dtype != "float32":
        return Opened(cache)
    return Opened(cache, (f"teacher cache: not to the last bit what it would say live, for {'; '.join(other)}",))


def _place_warning(builder: Builder, forecast: Forecast) -> str:
    identity = builder.identity
    if forecast.is_place_free or identity.dtype != "float32":
        return ""
    # Fewer rather than more rows than now: a forward never has more than a batch fills.
    rows = max(16, (identity.teacher.chunk_size - 1) // 16 * 16)
    return (
        "teacher cache: a row's last bits depend on its place in a forward here, so that live and cached runs differ "
        f"in them: --set teacher.chunk_size={rows} avoids that"
    )


def _say(line: str) -> None:
    print_error(f"workbench: {line}")
