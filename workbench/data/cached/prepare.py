"""Opening data with their pictures prepared: decoded once into a store, and read from there by every run after.

What a run sees does not depend on it. A store at a working size holds what live decoding at that size would give, and
any other holds the pictures as they are; so ``data.prepare`` decides how long a batch takes, and nothing else."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from workbench.data.cached.dataset import PreparedDataset
from workbench.data.cached.listing import find_store, home, make_store
from workbench.data.cached.store import Kind, Store
from workbench.data.cached.writer import Content, content_of, num_threads
from workbench.data.dataset import Dataset
from workbench.data.images import at_working_size
from workbench.data.sources.files import spread
from workbench.data.sources.tar import BadShards
from workbench.data.spec import Role, open_dataset
from workbench.embeddings import BadImage, InputSpec
from workbench.files import DiskFullError, write_failure
from workbench.formatting import duration, size
from workbench.limits import free_bytes
from workbench.progress import announced

# What a store will take, said before it is made.

NUM_TRIED = 24
ENTRY_BYTES = 60  # of a picture's row in the index, and of what surrounds its texts


@dataclass(frozen=True)
class Forecast:
    """Bytes on disk, and seconds to make them."""

    size_bytes: int
    time_s: float

    def __str__(self) -> str:
        return f"{size(self.size_bytes)}, about {duration(self.time_s)}"


def forecast(dataset: Dataset, kind: Kind) -> Forecast:
    """Size and time of a store of these data, from a few pictures all over them."""
    tried = spread(len(dataset), NUM_TRIED)
    start = time.perf_counter()
    contents = [content_of(dataset, index, kind) for index in tried]
    picture_s = (time.perf_counter() - start) / len(tried)
    texts = [dataset.text(index) for index in tried]
    picture_bytes = sum(len(content.data) for content in contents if not isinstance(content, BadImage))
    text_bytes = sum(len(text.key + text.group) + sum(map(len, text.captions)) for text in texts)
    each_bytes = ENTRY_BYTES + (picture_bytes + text_bytes) / len(tried)
    return Forecast(round(len(dataset) * each_bytes), len(dataset) * picture_s / num_threads())


Prepare = Literal["auto", "off", "pixels", "jpeg"]

AUTO_BYTES = 2_000_000_000  # what a run prepares unasked
SPARE = 2  # times as much must be free for that
WORTH_SHOWING_S = 2.0
OFF = "--set data.prepare=off decodes live"


@dataclass(frozen=True)
class Use:
    """What a run does with its data, as far as that decides how they are kept.

    Args:
        prepare: see ``data.prepare``.
        working_size: see ``data.working_size``.
        num_reads: pairs that the run reads altogether; None for as many as like.
        forms: the models that read captions.
        bad_shards: see ``data.bad_shards``.
    """

    prepare: Prepare = "off"
    working_size: int = 0
    num_reads: int | None = None
    forms: tuple[InputSpec, ...] = ()
    bad_shards: BadShards = "refuse"

    def __post_init__(self) -> None:
        largest = max((form.image_size for form in self.forms), default=0)
        if 0 < self.working_size < largest:
            raise ValueError(
                f"data.working_size={self.working_size} is less than the {largest} px that a model takes, "
                f"which would blur every picture: set it to {largest} or more, or to 0"
            )


class Opened(NamedTuple):
    """Data that are open, and what a person should know of how they are kept."""

    dataset: Dataset
    notes: list[str]


def open_prepared(spec: str, role: Role, num_pairs: int, use: Use) -> Opened:
    """The data that a SPEC names, prepared where that is wished for or pays; see ``open_dataset``.

    ``auto`` takes a store that is there. Else it makes one of up to 2 GB where pictures will be read more than once.

    Raises:
        ValueError: besides what is wrong with the SPEC: what was asked for cannot be prepared.
    """
    notes: list[str] = []

    def keep(name: str, dataset: Dataset, share: float) -> Dataset:
        reads = None if use.num_reads is None else use.num_reads * share
        store = _store(name, dataset, use, reads, notes)
        if store is None:
            return at_working_size(dataset, use.working_size)
        prepared = PreparedDataset(store, dataset)
        _keep_tokens(prepared, use.forms, reads)
        is_scaled = store.manifest.source.kind == "pixels"
        return prepared if is_scaled else at_working_size(prepared, use.working_size)

    return Opened(open_dataset(spec, role, num_pairs, keep, use.bad_shards), notes)


def prepare(name: str, dataset: Dataset, kind: Kind, working_size: int = 0) -> Store:
    """The store of some data: the one that is there if it is whole and not stale, else one made now, with progress.

    Raises:
        ValueError: too many pictures cannot be used, or they cannot be written, with the remedy.
    """
    kept = _kept(dataset, kind, working_size)
    found = find_store(kept, kind)
    if found is not None:
        return found
    try:
        return _make(name, kept, kind, working_size, forecast(kept, kind))
    except OSError as error:
        raise ValueError(
            f"{name} cannot be prepared ({write_failure(error)}): make room, name another folder in WORKBENCH_CACHE, "
            f"or take less (jpeg, or a working size); {OFF}"
        ) from None


def _store(name: str, dataset: Dataset, use: Use, reads: float | None, notes: list[str]) -> Store | None:
    if use.prepare == "off":
        return None
    if use.prepare != "auto":
        return prepare(name, dataset, use.prepare, use.working_size)
    kinds: Sequence[Kind] = ("pixels", "jpeg")
    for kind in kinds:
        found = find_store(_kept(dataset, kind, use.working_size), kind)
        if found is not None:
            return found
    if reads is not None and reads <= len(dataset):
        return None
    return _unasked(name, _kept(dataset, "pixels", use.working_size), use.working_size, notes)


def _unasked(name: str, kept: Dataset, working_size: int, notes: list[str]) -> Store | None:
    """A store that nobody asked for: only if it is small, and never a reason for a run not to start."""
    needed = forecast(kept, "pixels")
    if needed.size_bytes > AUTO_BYTES:
        notes.append(
            f"pictures of {name} are decoded anew every epoch: `workbench data prepare` would decode them once "
            f"({needed}; --keep jpeg or --working-size takes less); {OFF} and says nothing"
        )
        return None
    try:
        if free_bytes(home()) < SPARE * needed.size_bytes:
            raise DiskFullError(home(), SPARE * needed.size_bytes)
        return _make(name, kept, "pixels", working_size, needed)
    except OSError as error:
        notes.append(
            f"pictures of {name} are decoded anew every epoch, for they cannot be kept: {write_failure(error)}; {OFF}"
        )
    except ValueError:  # too many are broken: the run finds so by itself, if it meets them
        pass
    return None


def _make(name: str, kept: Dataset, kind: Kind, working_size: int, needed: Forecast) -> Store:
    if free_bytes(home()) < needed.size_bytes:
        raise DiskFullError(home(), needed.size_bytes)
    label = f"{name}, {working_size} px" if working_size and kind == "pixels" else name

    def show(contents: Iterable[Content | BadImage]) -> Iterable[Content | BadImage]:
        if needed.time_s < WORTH_SHOWING_S:
            return contents
        return announced(contents, len(kept), "preparing", f"{label}: {needed}")

    return make_store(kept, kind, spec=label, num_bytes=needed.size_bytes, show=show)


def _kept(dataset: Dataset, kind: Kind, working_size: int) -> Dataset:
    """The data as a store of this kind holds them: files are kept as they are, and scaled when they are read."""
    return at_working_size(dataset, working_size) if kind == "pixels" else dataset


def _keep_tokens(prepared: PreparedDataset, forms: Iterable[InputSpec], reads: float | None) -> None:
    """Tokenizes all captions once, where the run would tokenize as many."""
    if reads is not None and reads < prepared.store.manifest.num_captions:
        return
    for form in forms:
        try:
            prepared.keep_tokens(form)
        except OSError:  # no room: they are made as they are needed
            return
