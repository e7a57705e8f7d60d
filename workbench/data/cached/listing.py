"""The folder of stores in the user's cache: finding, making, listing and removing them."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from workbench.data.cached.store import MANIFEST, Kind, Manifest, Source, Store
from workbench.data.cached.writer import Show, write_store
from workbench.data.dataset import Dataset
from workbench.data.unusable import ImageError
from workbench.files import new_folder, remove, sweep
from workbench.process import folder_lock
from workbench.resources import cache_dir

STORE = "store"


class Listed(NamedTuple):
    """A store in a listing."""

    folder: Path
    manifest: Manifest
    size_bytes: int


def home() -> Path:
    """The folder of all stores."""
    return cache_dir() / "prepared"


def place_of(dataset: Dataset, kind: Kind) -> Path:
    """The folder of the dataset's store, whether it exists or not."""
    return home() / sha256(f"{kind} {dataset.fingerprint}".encode()).hexdigest()[:32] / STORE


def find_store(dataset: Dataset, kind: Kind) -> Store | None:
    """The dataset's store; None if there is none, or if it is stale or damaged."""
    folder = place_of(dataset, kind)
    if not folder.exists():
        return None
    try:
        store = Store(folder)
    except ValueError:
        return None
    if store.manifest.source != Source.of(dataset, kind) or _is_readable_now(dataset, store):
        return None
    return store


def _is_readable_now(dataset: Dataset, store: Store) -> bool:
    """Whether an image is readable that was not when the store was made, for example on an unmounted disk."""
    for index, (reason, _) in store.manifest.unusable.items():
        if reason == "unreadable file":
            with suppress(ImageError):
                dataset.encoded(index)
                return True
    return False


def make_store(dataset: Dataset, kind: Kind, *, spec: str, num_bytes: int, show: Show) -> Store:
    """Writes the dataset's store, and removes stores of older data with the same name; see :func:`write_store`.

    Of two processes that want the same store, one writes it and the other waits. A killed process leaves only a
    temporary folder, which the next one removes.

    Args:
        num_bytes: estimated size, for the error if the disk is full.

    Raises:
        ValueError: too many images are unusable.
        OSError: the disk is full, or not writable.
    """
    folder = place_of(dataset, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder.parent, "prepares the same data"):
        if (found := find_store(dataset, kind)) is not None:  # another process made it while this one waited
            return found
        for place in home().iterdir():
            sweep(place)
        with new_folder(folder, num_bytes=num_bytes, replace=True) as temporary:
            write_store(dataset, Source.of(dataset, kind), temporary, spec=spec, show=show)
    store = Store(folder)
    _remove_older(store)
    return store


def _remove_older(store: Store) -> None:
    """Removes stores of the same SPEC, folder and kind, whose data have changed since."""
    now = store.manifest

    def name(manifest: Manifest) -> tuple[str, str, str]:
        return manifest.spec, manifest.place, manifest.source.kind

    for other in listed():
        if name(other.manifest) == name(now) and other.manifest.id != now.id:
            remove(other.folder)


def listed() -> list[Listed]:
    """All complete stores, sorted by SPEC."""
    found = []
    for folder in home().glob(f"*/{STORE}"):
        with suppress(OSError, ValueError):
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(Listed(folder, manifest, size))
    return sorted(found, key=lambda one: (one.manifest.spec, one.manifest.source.kind, one.manifest.id))


def remove_store(folder: Path) -> None:
    """Removes a store; a run that has it open can continue to read it."""
    remove(folder)
