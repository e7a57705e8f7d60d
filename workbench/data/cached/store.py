"""A store: the decoded images (or original files) and texts of a dataset, in three memory-mapped files.

- ``pictures.bin``: all images, concatenated: pixels (uint8 [H, W, 3]) or the bytes of the original files.
- ``texts.bin``: a JSON list per image: key, captions, group, class.
- ``index.bin``: five int64 per image, after a row of zeros: end of its bytes, width and height (0 if unknown), end of
  its text, number of captions up to and including it.
- ``store.json``: the manifest, with the identity of the data. Written last, so that it marks a complete store.
"""

import json
import mmap
import os
import struct
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple, Self

import PIL
from PIL import Image, features
from pydantic import BaseModel, ConfigDict

from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.images import decode_image
from workbench.data.unusable import ImageError, Reason

RELEASE_BYTES = 1 << 25
FAULT_BYTES = 1 << 16  # Linux maps this much around each page that is read


class MappedFile:
    """A memory-mapped file: no copies, shared by threads and forked processes, pickled by path.

    Pages that were read count as resident memory although the system can reclaim them, so that a run would seem to
    grow to the size of the file. Files above 32 MB release their pages after every 32 MB read; the next read finds
    them in the page cache.
    """

    def __init__(self, path: Path) -> None:
        """Maps the file at its current size.

        Raises:
            OSError: the file is missing or unreadable.
        """
        self._path = path
        self._num_touched = 0
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self._view = memoryview(self._pages or b"")

    def __len__(self) -> int:
        return len(self._view)

    def __reduce__(self) -> tuple[type["MappedFile"], tuple[Path]]:
        return MappedFile, (self._path,)

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from ``start`` to ``end`` (exclusive); the view stays valid after pages are released."""
        self._num_touched += end - start + FAULT_BYTES
        if self._num_touched > RELEASE_BYTES < len(self._view):
            self._release()
        return self._view[start:end]

    def _release(self) -> None:
        self._num_touched = 0
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)  # file-backed: a later read loads the same bytes


FORMAT = 1  # increase it when the files of the same data change
IMAGES, TEXTS, INDEX, MANIFEST = "pictures.bin", "texts.bin", "index.bin", "store.json"
HASHED_BYTES = 1 << 20

Kind = Literal["pixels", "jpeg"]


class Entry(NamedTuple):
    """A row of the index."""

    image_end: int
    width: int
    height: int
    text_end: int
    num_captions: int


ROW, TWO_ROWS = struct.Struct("<5q"), struct.Struct("<10q")


class Span(NamedTuple):
    """Byte ranges of an image and its text, its size, and the number of captions before its own."""

    image: tuple[int, int]
    size: tuple[int, int]
    text: tuple[int, int]
    first_caption: int


class Source(BaseModel):
    """Identity of the data in a store; the store is stale if it differs."""

    model_config = ConfigDict(frozen=True)

    format: int
    kind: Kind
    fingerprint: str  # Dataset.fingerprint
    stamp: str  # Dataset.stamp
    decoder: str

    @classmethod
    def of(cls, dataset: Dataset, kind: Kind) -> Self:
        """The identity of the dataset as it is now."""
        return cls(format=FORMAT, kind=kind, fingerprint=dataset.fingerprint, stamp=dataset.stamp(), decoder=decoder())


class Manifest(BaseModel):
    """Content of ``store.json``; ``unusable`` has category and message of each unusable image, by index."""

    model_config = ConfigDict(frozen=True)

    source: Source
    id: str  # random and unique
    spec: str
    place: str  # working directory, to which the SPEC is relative
    num_pairs: int
    num_captions: int
    elapsed_s: float
    sizes: dict[str, int]
    index_sha256: str
    unusable: dict[int, tuple[Reason, str]]


def decoder() -> str:
    """Versions of Pillow and its codecs, which determine the pixels of a file."""
    codecs = ("jpg", "zlib", "webp")
    versions = [f"{name} {features.version(name)}" for name in (*codecs, "libjpeg_turbo")]
    return ", ".join([f"pillow {PIL.__version__}", *versions])


class Store:
    """Random access to the images and texts of a store; safe for threads and processes, picklable."""

    def __init__(self, folder: Path) -> None:
        """Opens a store.

        Raises:
            ValueError: incomplete: missing, truncated, or with a different index than was written.
        """
        try:
            self.folder = folder
            self.manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            self._images, self._texts, self._index = (MappedFile(folder / name) for name in (IMAGES, TEXTS, INDEX))
        except (OSError, ValueError) as error:
            raise ValueError(f"no complete store in '{folder}'") from error
        sizes = {IMAGES: len(self._images), TEXTS: len(self._texts), INDEX: len(self._index)}
        if sizes != self.manifest.sizes or self._index_sha256() != self.manifest.index_sha256:
            raise ValueError(f"the store in '{folder}' is damaged")

    def __len__(self) -> int:
        return self.manifest.num_pairs

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return _reopened, (self.folder, self.manifest.id)

    def sample(self, index: int) -> Sample:
        """One sample, equal to the one that live decoding gives.

        Raises:
            ImageError: the image was unusable when the store was made.
        """
        span = self._span(index)
        return Sample(*self._fields(span), self._image(index, span))

    def encoded(self, index: int) -> bytes:
        """The image file, if the store holds files."""
        assert self.manifest.source.kind == "jpeg"
        return bytes(self._data(index, self._span(index)))

    def text(self, index: int) -> SampleText:
        """One sample without its image."""
        return self._text(self._span(index))

    def first_caption(self, index: int) -> int:
        """Number of captions of all earlier images."""
        return self._span(index).first_caption

    def _span(self, index: int) -> Span:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        start = index * ROW.size
        # Image i is between the ends in rows i and i + 1; its size is in row i + 1.
        image_start, _, _, text_start, first_caption, image_end, width, height, text_end, _ = TWO_ROWS.unpack(
            self._index.read(start, start + TWO_ROWS.size)
        )
        return Span((image_start, image_end), (width, height), (text_start, text_end), first_caption)

    def _text(self, span: Span) -> SampleText:
        return SampleText(*self._fields(span))

    def _fields(self, span: Span) -> tuple[str, tuple[str, ...], str, str | None]:
        key, captions, group, label = json.loads(str(self._texts.read(*span.text), "utf-8"))
        return key, tuple(captions), group, label

    def _image(self, index: int, span: Span) -> Image.Image:
        data = self._data(index, span)
        if self.manifest.source.kind == "pixels":
            image = Image.new("RGB", span.size, None)  # uninitialized: Image.frombytes would fill it first
            image.frombytes(data)
            return image
        try:
            return decode_image(bytes(data))
        except ImageError as error:
            raise error.at(f"{self.manifest.spec}, image of {self._text(span).key!r}") from error

    def _data(self, index: int, span: Span) -> memoryview:
        if broken := self.manifest.unusable.get(index):
            raise ImageError(*broken)
        return self._images.read(*span.image)

    def _index_sha256(self) -> str:
        digest = sha256()
        for start in range(0, len(self._index), HASHED_BYTES):
            digest.update(self._index.read(start, start + HASHED_BYTES))
        return digest.hexdigest()


def _reopened(folder: Path, id: str) -> Store:
    """Unpickles a store, and checks that it is still the same one."""
    store = Store(folder)
    if store.manifest.id != id:
        raise ValueError(f"the store in '{folder}' has been replaced: start again")
    return store
