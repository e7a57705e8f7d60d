"""Entries of the cache on disk: finding, listing and removing them, and what a new one takes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from workbench.files import DiskFullError, remove
from workbench.formatting import duration, size
from workbench.process import free_bytes
from workbench.resources import cache_dir

Manifest = TypeVar("Manifest", bound=BaseModel)


@dataclass(frozen=True)
class Entry(Generic[Manifest]):
    """An entry in a listing."""

    folder: Path
    manifest: Manifest
    size_bytes: int


@dataclass(frozen=True)
class EntryKind(Generic[Manifest]):
    """A kind of entries. Each is a folder with a manifest, and without its manifest it does not exist.

    Attributes:
        name: the folder of this kind in the cache.
        path: of an entry's folder below a folder that is named for its identity; empty if they are the same.
        file: the manifest's name.
        order: by which a listing is sorted.
    """

    name: str
    path: str
    file: str
    manifest: type[Manifest]
    order: Callable[[Manifest], Any]

    @property
    def home(self) -> Path:
        """The folder of all entries."""
        return cache_dir() / self.name

    def folder(self, digest: str) -> Path:
        """The folder of an entry, whether it exists or not."""
        return self.home / digest / self.path

    def read(self, folder: Path) -> Manifest:
        """The manifest of an entry.

        Raises:
            OSError, ValueError: there is none, or it is damaged.
        """
        return self.manifest.model_validate_json((folder / self.file).read_bytes())

    def entries(self) -> list[Entry[Manifest]]:
        """All entries, sorted; also unfinished ones, if their manifest is written first."""
        found = []
        for folder in self.home.glob(f"*/{self.path}"):
            with suppress(OSError, ValueError):
                num_bytes = sum(file.stat().st_size for file in folder.iterdir())
                found.append(Entry(folder, self.read(folder), num_bytes))
        return sorted(found, key=lambda entry: (self.order(entry.manifest), entry.folder))

    def remove(self, folder: Path) -> None:
        """Removes an entry; a run that has it open can continue to read it."""
        (folder / self.file).unlink(missing_ok=True)  # first: a kill leaves nothing that looks complete
        remove(folder)


@dataclass(frozen=True)
class CacheEstimate:
    """Estimated bytes on disk, and seconds to write them."""

    size_bytes: int
    time_s: float

    def __str__(self) -> str:
        return f"{size(self.size_bytes)}, about {duration(self.time_s)}"


def require_room(folder: Path, num_bytes: int) -> None:
    """Raises DiskFullError if the disk of ``folder`` has less room."""
    if free_bytes(folder) < num_bytes:
        raise DiskFullError(folder, num_bytes)
