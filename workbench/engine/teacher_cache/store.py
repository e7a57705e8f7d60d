"""Teacher caches on disk: format, reading, listing and removal.

``rows.bin`` has a row for every view of every pair, view k of pair n at n · K + k: the unit-length embeddings of image
and caption, [2, D] of float32 or float16; NaN for a bad image. ``digests.bin`` has the SHA-256 of every block of rows,
zeros for a block that is not computed yet. ``cache.json`` is the manifest.

Shape letters: N pairs · K views · B rows of a batch · D the teacher's width.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from workbench.embeddings import Embeddings
from workbench.engine.teacher_cache.identity import Identity
from workbench.files import remove
from workbench.resources import cache_dir

if TYPE_CHECKING:
    from torch import Tensor

ROWS, DIGESTS, MANIFEST, LOCK = "rows.bin", "digests.bin", "cache.json", "lock"
MAX_DIFFERENCES = 3  # with more, the nearest cache is of no interest
DIGEST_BYTES = sha256().digest_size
REBUILD = "rebuild it with: workbench teacher cache, and the run's --recipe and --set"


class Manifest(BaseModel):
    """The content of a cache, and the machine on which it was started."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    width: int
    pairs_per_block: int
    data: str  # SPECs, as in the run's config
    teacher: str
    machine: dict[str, Any]

    @property
    def row_bytes(self) -> int:
        return 2 * self.width * np.dtype(self.identity.dtype).itemsize

    @property
    def pair_bytes(self) -> int:
        return self.identity.views * self.row_bytes

    @property
    def size_bytes(self) -> int:
        return self.identity.num_pairs * self.pair_bytes

    @property
    def num_blocks(self) -> int:
        return -(-self.identity.num_pairs // self.pairs_per_block)

    def block(self, number: int) -> range:
        """The pairs of a block."""
        start = number * self.pairs_per_block
        return range(start, min(start + self.pairs_per_block, self.identity.num_pairs))


class Listed(NamedTuple):
    """A cache in a list; ``num_built`` is the number of computed blocks."""

    folder: Path
    manifest: Manifest
    num_built: int


class TeacherCache:
    """The rows of a complete cache; each block is verified at its first read."""

    # Rows are read with pread, not memory-mapped. With large folios in the page cache, touching one mapped page maps
    # megabytes, and the resident size of a run would seem to grow up to the size of the file.

    def __init__(self, folder: Path) -> None:
        """Open a cache.

        Raises:
            ValueError: it is incomplete.
        """
        self.folder = folder
        try:
            self.manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            self._file = (folder / ROWS).open("rb", buffering=0)
            self._digests = read_digests(folder, self.manifest)
        except (OSError, ValueError) as error:
            raise ValueError(f"no complete teacher cache in '{folder}': {REBUILD}") from error
        if not all(self._digests):
            raise ValueError(f"the teacher cache in '{folder}' is not finished: {REBUILD}")
        self._checked = np.zeros(self.manifest.num_blocks, dtype=bool)

    def embeddings(self, rows_B: "Tensor", scale: "Tensor") -> Embeddings:
        """The embeddings of some rows, on the device of ``scale``; the copy to a GPU is asynchronous.

        Raises:
            ValueError: a block is damaged, or the image of a pair was bad when the cache was built.
        """
        import torch

        rows = rows_B.numpy()
        self._check(np.unique(rows // (self.manifest.pairs_per_block * self.manifest.identity.views)))
        size = self.manifest.row_bytes
        content = bytearray(len(rows) * size)
        for place, row in enumerate(rows.tolist()):
            os.preadv(self._file.fileno(), [memoryview(content)[place * size : (place + 1) * size]], row * size)
        raw_B2D = np.frombuffer(content, self.manifest.identity.dtype).reshape(len(rows), 2, self.manifest.width)
        if np.isnan(raw_B2D[:, 0, 0]).any():
            pair = int(rows[np.isnan(raw_B2D[:, 0, 0])][0]) // self.manifest.identity.views
            raise ValueError(
                f"the teacher cache has nothing of pair {pair}, whose image was bad when it was built: {REBUILD}"
            )
        return self._on_device(torch.from_numpy(raw_B2D), scale)

    def damaged(self) -> list[int]:
        """The blocks whose SHA-256 does not match; reads all of them."""
        return [number for number in range(self.manifest.num_blocks) if not self._is_intact(number)]

    def _on_device(self, raw_B2D: "Tensor", scale: "Tensor") -> Embeddings:
        import torch
        import torch.nn.functional as F

        if scale.device.type == "cuda":
            raw_B2D = raw_B2D.pin_memory().to(scale.device, non_blocking=True)
        if raw_B2D.dtype != torch.float32:  # rounding to float16 has changed the norms
            raw_B2D = F.normalize(raw_B2D.float(), dim=-1)
        image_BD, text_BD = raw_B2D.unbind(1)
        return Embeddings(image_BD.contiguous(), text_BD.contiguous(), scale)

    def _check(self, blocks: npt.NDArray[np.int64]) -> None:
        for number in blocks[~self._checked[blocks]].tolist():
            if not self._is_intact(number):
                raise ValueError(f"block {number} of the teacher cache in '{self.folder}' is damaged: {REBUILD}")
            self._checked[number] = True

    def _is_intact(self, number: int) -> bool:
        pairs, size = self.manifest.block(number), self.manifest.pair_bytes
        content = os.pread(self._file.fileno(), len(pairs) * size, pairs.start * size)
        return sha256(content).digest() == self._digests[number]


def read_digests(folder: Path, manifest: Manifest) -> list[bytes]:
    """The digest of every block; empty for one that is not computed yet, and for all if ``rows.bin`` is truncated.

    Raises:
        OSError: they cannot be read.
    """
    if (folder / ROWS).stat().st_size != manifest.size_bytes:
        return [b""] * manifest.num_blocks
    content = (folder / DIGESTS).read_bytes().ljust(DIGEST_BYTES * manifest.num_blocks, b"\0")
    digests = [content[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES] for i in range(manifest.num_blocks)]
    return [digest if any(digest) else b"" for digest in digests]


def home() -> Path:
    """The folder of all teacher caches."""
    return cache_dir() / "teacher"


def place_of(identity: Identity) -> Path:
    """The folder of a cache, whether it exists or not."""
    return home() / identity.digest


def find_cache(identity: Identity) -> TeacherCache | None:
    """The complete cache of this identity; None if it is missing or incomplete."""
    folder = place_of(identity)
    with suppress(ValueError):
        cache = TeacherCache(folder)
        return cache if cache.manifest.identity == identity else None
    return None


def why_missing(identity: Identity) -> str:
    """Why there is no complete cache of this identity: none, an incomplete one, or how the nearest differs."""
    there = listed()
    for one in there:
        if one.manifest.identity == identity:
            return f"this run's is built up to block {one.num_built} of {one.manifest.num_blocks}"
    nearest = min((identity.differences(one.manifest.identity) for one in there), key=len, default=[])
    if not 0 < len(nearest) <= MAX_DIFFERENCES:
        return "there is none yet"
    return f"the nearest one differs in {', '.join(nearest)}"


def listed() -> list[Listed]:
    """All caches, complete or not, sorted by data and teacher."""
    found = []
    for file in home().glob(f"*/{MANIFEST}"):
        with suppress(OSError, ValueError):
            manifest = Manifest.model_validate_json(file.read_bytes())
            digests = read_digests(file.parent, manifest)
            found.append(Listed(file.parent, manifest, sum(map(bool, digests))))
    return sorted(found, key=lambda one: (one.manifest.data, one.manifest.teacher, one.folder.name))


def remove_cache(folder: Path) -> None:
    """Remove a cache; a run that reads it keeps its open file."""
    with suppress(FileNotFoundError):
        (folder / MANIFEST).unlink()  # first: without it the rest is no cache
    remove(folder)


def remove_all() -> None:
    """Remove every cache, complete or not, and the embeddings of held-out pairs."""
    for one in listed():
        remove_cache(one.folder)
    remove(home())
