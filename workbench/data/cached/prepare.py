"""``cached``: a ``Dataset`` -> the same samples, read from a store of decoded images where that saves time.

``data.prepare`` changes how long a batch takes and nothing else: a store at a working size holds exactly what live
decoding at that size gives, and any other store holds the original images. A store of views holds the crops that every
epoch repeats if ``data.views`` fixes their number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from workbench.cache.entries import CacheEstimate, require_room
from workbench.data.cached.store import STORES, CroppedDataset, Kind, PreparedDataset, Store, Views
from workbench.data.cached.writer import Content, estimate_store, find_store, make_store
from workbench.data.crops import CropSpec
from workbench.data.dataset import Dataset
from workbench.data.images import at_working_size
from workbench.data.mixture import map_parts
from workbench.embeddings import BadImage, InputSpec
from workbench.files import write_failure
from workbench.process import free_bytes
from workbench.progress import progress

Prepare = Literal["auto", "off", "pixels", "jpeg", "views"]
KINDS: tuple[Kind, ...] = ("pixels", "jpeg")

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
        num_views: see ``data.views``; with 0, as in evaluation, no crops are repeated.
        seed: the data seed, on which crops depend.
        crop_scale: see ``data.crop_scale``.
    """

    prepare: Prepare = "off"
    working_size: int = 0
    num_reads: int | None = None
    input_specs: tuple[InputSpec, ...] = ()
    num_views: int = 0
    seed: int = 0
    crop_scale: tuple[float, float] = (0.9, 1.0)

    def __post_init__(self) -> None:
        largest = max((spec.image_size for spec in self.input_specs), default=0)
        if 0 < self.working_size < largest:
            raise ValueError(
                f"data.working_size={self.working_size} is less than the {largest} px input of a model, "
                f"which would blur every image: set it to {largest} or more, or to 0"
            )

    @property
    def views(self) -> list[Views]:
        """The crops that the run repeats, in each image size; the first model's first."""
        sizes = dict.fromkeys(spec.image_size for spec in self.input_specs) if self.num_views else ()
        crops = [CropSpec(seed=self.seed, scale=self.crop_scale, image_size=size) for size in sizes]
        return [Views(num_views=self.num_views, crop=crop) for crop in crops]


class Cached(NamedTuple):
    """The dataset to read from, and notes for the user about what could not be cached."""

    dataset: Dataset
    notes: list[str]


def cached(dataset: Dataset, policy: CachePolicy) -> Cached:
    """The dataset at the working size, read from stores where the policy asks for them; each part of a mixture alone.

    "auto" uses existing stores. Otherwise it writes one of up to 2 GB: of views if the run reads each of them more than
    once, else of pixels if images will be read more than once.

    Raises:
        ValueError: the store that was asked for cannot be written.
    """
    if policy.views and policy.prepare in ("auto", "views") and (cropped := _cropped(dataset, policy)):
        return Cached(cropped, [])
    notes: list[str] = []
    return Cached(map_parts(dataset, lambda part, share: _cached_part(part, share, policy, notes)), notes)


def _cropped(dataset: Dataset, policy: CachePolicy) -> CroppedDataset | None:
    """The dataset with cached crops; None if "auto" has none and makes none.

    A mixture has one store, since crops depend on keys, which its parts alone do not have.
    """
    # Whole images come from stores that exist. Their tokens are not needed.
    whole = map_parts(dataset, lambda part, _: _read_from(_existing(part, policy.working_size), part, policy, 0))
    missing = [views for views in policy.views if find_store(whole, views) is None]
    if missing and policy.prepare == "auto" and not _is_worth_cropping(whole, missing, policy):
        return None
    try:
        stores = [prepare(whole, views) for views in policy.views]
    except ValueError:  # no room, or too many unusable images: as for other stores, "auto" goes on without
        if policy.prepare == "views":
            raise
        return None
    cropped = CroppedDataset(stores, whole)
    _cache_tokens(cropped, policy.input_specs, policy.num_reads)
    return cropped


def _is_worth_cropping(dataset: Dataset, missing: Sequence[Views], policy: CachePolicy) -> bool:
    """Whether "auto" writes stores of views: each view is read more than once, and they are small enough."""
    if policy.num_reads is None or policy.num_reads <= policy.num_views * len(dataset):
        return False
    num_bytes = sum(estimate_store(dataset, views).size_bytes for views in missing)
    return num_bytes <= AUTO_BYTES and free_bytes(STORES.home) >= SPARE * num_bytes


def _cached_part(dataset: Dataset, share: float, policy: CachePolicy, notes: list[str]) -> Dataset:
    num_reads = None if policy.num_reads is None else policy.num_reads * share
    return _read_from(_store(dataset, policy, num_reads, notes), dataset, policy, num_reads)


def _read_from(store: Store | None, dataset: Dataset, policy: CachePolicy, num_reads: float | None) -> Dataset:
    """The dataset at the working size, from the store if there is one."""
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
            f"name another folder in WORKBENCH_CACHE, or take less (jpeg, a working size, or fewer views); {OFF}"
        ) from None


def _store(dataset: Dataset, policy: CachePolicy, num_reads: float | None, notes: list[str]) -> Store | None:
    if policy.prepare == "off":
        return None
    if policy.prepare in ("pixels", "jpeg"):
        return prepare(dataset, policy.prepare, policy.working_size)
    found = _existing(dataset, policy.working_size)
    if found is not None:
        return found
    if num_reads is not None and num_reads <= len(dataset):
        return None  # every image is read once: writing a store would take longer than it saves
    return _make_automatically(_as_stored(dataset, "pixels", policy.working_size), policy.working_size, notes)


def _existing(dataset: Dataset, working_size: int) -> Store | None:
    """The dataset's store of pixels, else that of files; None if there is neither."""
    for kind in KINDS:
        found = find_store(_as_stored(dataset, kind, working_size), kind)
        if found is not None:
            return found
    return None


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
    label = f"{label}, {kind}" if isinstance(kind, Views) else label

    def show(contents: Iterable[Content | BadImage]) -> Iterable[Content | BadImage]:
        if needed.time_s < WORTH_SHOWING_S:
            return contents
        return progress(contents, len(stored), "preparing", details=f"{label}: {needed}")

    return make_store(stored, kind, spec=label, num_bytes=needed.size_bytes, show=show)


def _as_stored(dataset: Dataset, kind: Kind, working_size: int) -> Dataset:
    """What a store is made of: scaled pixels, or the original files, which are scaled when they are read."""
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
