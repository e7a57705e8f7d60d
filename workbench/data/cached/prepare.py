"""``cached``: a ``Dataset`` -> the same samples, read from a store of decoded images where that saves time.

``data.prepare`` changes how long a batch takes and nothing else: a store at a working size holds exactly what live
decoding at that size gives, and any other store holds the original images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from workbench.cache.entries import CacheEstimate, require_room
from workbench.data.cached.store import STORES, Kind, PreparedDataset, Store
from workbench.data.cached.writer import Content, estimate_store, find_store, make_store
from workbench.data.dataset import Dataset
from workbench.data.images import at_working_size
from workbench.data.mixture import map_parts
from workbench.embeddings import BadImage, InputSpec
from workbench.files import write_failure
from workbench.progress import progress

Prepare = Literal["auto", "off", "pixels", "jpeg"]

AUTO_BYTES = 2_000_000_000  # largest store that "auto" writes
SPARE = 2  # "auto" needs so many times its size free on disk
WORTH_SHOWING_S = 2.0
OFF = "--set data.prepare=off decodes live"


@dataclass(frozen=True)
class CachePolicy:
    """When to read a dataset from a store.

    Args:
        prepare: see ``data.prepare``.
        working_size: see ``data.working_size``.
        num_reads: pairs that the run reads in total; None if unknown.
        input_specs: the models whose tokens are cached.
    """

    prepare: Prepare = "off"
    working_size: int = 0
    num_reads: int | None = None
    input_specs: tuple[InputSpec, ...] = ()

    def __post_init__(self) -> None:
        largest = max((spec.image_size for spec in self.input_specs), default=0)
        if 0 < self.working_size < largest:
            raise ValueError(
                f"data.working_size={self.working_size} is less than the {largest} px input of a model, "
                f"which would blur every image: set it to {largest} or more, or to 0"
            )


class Cached(NamedTuple):
    """The dataset to read from, and notes for the user about what could not be cached."""

    dataset: Dataset
    notes: list[str]


def cached(dataset: Dataset, policy: CachePolicy) -> Cached:
    """The dataset at the working size, read from stores where the policy asks for them; each part of a mixture alone.

    "auto" uses an existing store. Otherwise it writes one of up to 2 GB if images will be read more than once.

    Raises:
        ValueError: the store that was asked for cannot be written.
    """
    notes: list[str] = []
    return Cached(map_parts(dataset, lambda part, share: _cached_part(part, share, policy, notes)), notes)


def _cached_part(dataset: Dataset, share: float, policy: CachePolicy, notes: list[str]) -> Dataset:
    num_reads = None if policy.num_reads is None else policy.num_reads * share
    store = _store(dataset, policy, num_reads, notes)
    if store is None:
        return at_working_size(dataset, policy.working_size)
    prepared = PreparedDataset(store, dataset)
    _cache_tokens(prepared, policy.input_specs, num_reads)
    is_scaled = store.manifest.source.kind == "pixels"
    return prepared if is_scaled else at_working_size(prepared, policy.working_size)


def prepare(dataset: Dataset, kind: Kind, working_size: int = 0) -> Store:
    """The dataset's store: an existing complete and current one, else a new one, with progress.

    Raises:
        ValueError: too many images are unusable, or the store cannot be written.
    """
    stored = _as_stored(dataset, kind, working_size)
    found = find_store(stored, kind)
    if found is not None:
        return found
    try:
        return _make(stored, kind, working_size, estimate_store(stored, kind))
    except OSError as error:
        raise ValueError(
            f"{dataset.name} cannot be prepared ({write_failure(error)}): make room, "
            f"name another folder in WORKBENCH_CACHE, or take less (jpeg, or a working size); {OFF}"
        ) from None


def _store(dataset: Dataset, policy: CachePolicy, num_reads: float | None, notes: list[str]) -> Store | None:
    if policy.prepare == "off":
        return None
    if policy.prepare != "auto":
        return prepare(dataset, policy.prepare, policy.working_size)
    kinds: tuple[Kind, ...] = ("pixels", "jpeg")
    for kind in kinds:
        found = find_store(_as_stored(dataset, kind, policy.working_size), kind)
        if found is not None:
            return found
    if num_reads is not None and num_reads <= len(dataset):
        return None  # every image is read once: writing a store would take longer than it saves
    return _make_automatically(_as_stored(dataset, "pixels", policy.working_size), policy.working_size, notes)


def _make_automatically(stored: Dataset, working_size: int, notes: list[str]) -> Store | None:
    """Writes a store for "auto" if it is small. A failure is a note, and the run decodes live."""
    needed = estimate_store(stored, "pixels")
    if needed.size_bytes > AUTO_BYTES:
        notes.append(
            f"images of {stored.name} are decoded again every epoch: `workbench data prepare` would decode them once "
            f"({needed}; --keep jpeg or --working-size takes less); {OFF} without this note"
        )
        return None
    try:
        require_room(STORES.home, SPARE * needed.size_bytes)
        return _make(stored, "pixels", working_size, needed)
    except OSError as error:
        notes.append(
            f"images of {stored.name} are decoded again every epoch, since no store can be written: "
            f"{write_failure(error)}; {OFF}"
        )
    except ValueError:  # too many unusable images: training counts them itself and stops if it meets too many
        pass
    return None


def _make(stored: Dataset, kind: Kind, working_size: int, needed: CacheEstimate) -> Store:
    require_room(STORES.home, needed.size_bytes)
    label = f"{stored.name}, {working_size} px" if working_size and kind == "pixels" else stored.name

    def show(contents: Iterable[Content | BadImage]) -> Iterable[Content | BadImage]:
        if needed.time_s < WORTH_SHOWING_S:
            return contents
        return progress(contents, len(stored), "preparing", details=f"{label}: {needed}")

    return make_store(stored, kind, spec=label, num_bytes=needed.size_bytes, show=show)


def _as_stored(dataset: Dataset, kind: Kind, working_size: int) -> Dataset:
    """What a store of this kind holds: scaled pixels, or the original files, which are scaled when they are read."""
    return at_working_size(dataset, working_size) if kind == "pixels" else dataset


def _cache_tokens(prepared: PreparedDataset, specs: Iterable[InputSpec], num_reads: float | None) -> None:
    """Tokenizes all captions once, if the run would tokenize as many."""
    if num_reads is not None and num_reads < prepared.store.manifest.num_captions:
        return
    for spec in specs:
        try:
            prepared.keep_tokens(spec)
        except OSError:  # disk full: batches tokenize their captions themselves
            return
