"""A data set decoded beforehand, as it lies on disk: three files that are mapped into memory, and what they hold.

``pictures.bin`` has the pictures end to end: their pixels (uint8 [H, W, C], C = 3 for RGB), or the bytes of the files
that they came from. ``texts.bin`` has keys, captions, groups and classes, a JSON list a picture. ``index.bin`` has five
int64 a picture, after five zeros: where its bytes end, its width and height (0 where unknown), where its text ends, and
how many captions there are up to it. ``store.json`` says whose pictures these are, and is written last.

Pixels of pictures of one size are one array [N, H, W, C], which a GPU with room for it could hold whole. Pillow's
bicubic is integer arithmetic along rows and then columns, so that it could also crop there bit for bit."""

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

# A file of many pieces, read through memory pages that are given back before they pile up.

RELEASE_BYTES = 1 << 25
FAULT_BYTES = 1 << 16  # Linux maps so much around a page that is asked for


class Mapped:
    """A file in memory pages: nothing is copied, threads and forked processes share it, and it is picklable by path.

    Pages that were read count as a process's memory, although the system can take them back: a run would seem to grow
    until it held the whole file. Those of a file above 32 MB are let go as often as that; the next reader finds them in
    the system's cache.
    """

    def __init__(self, path: Path) -> None:
        """Maps the file as it is now.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        self._path = path
        self._num_touched = 0
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self._view = memoryview(self._pages or b"")

    def __len__(self) -> int:
        return len(self._view)

    def __reduce__(self) -> tuple[type["Mapped"], tuple[Path]]:
        return Mapped, (self._path,)

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from ``start`` up to, not including, ``end``; they stay readable as long as someone holds them."""
        self._num_touched += end - start + FAULT_BYTES
        if self._num_touched > RELEASE_BYTES < len(self._view):
            self._release()
        return self._view[start:end]

    def _release(self) -> None:
        self._num_touched = 0
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)  # of a file: whoever reads on gets the same bytes again


FORMAT = 1  # raise it when a store of the same data would come out otherwise
PICTURES, TEXTS, INDEX, MANIFEST = "pictures.bin", "texts.bin", "index.bin", "store.json"
HASHED_BYTES = 1 << 20

Kind = Literal["pixels", "jpeg"]


class Entry(NamedTuple):
    """A row of the index."""

    picture_end: int
    width: int
    height: int
    text_end: int
    num_captions: int


ROW, TWO_ROWS = struct.Struct("<5q"), struct.Struct("<10q")


class Span(NamedTuple):
    """What the index says of a picture: where its bytes and its text are, and how many captions come before its own."""

    picture: tuple[int, int]
    size: tuple[int, int]
    text: tuple[int, int]
    first_caption: int


class Source(BaseModel):
    """Whose pictures a store holds; another source makes it stale."""

    model_config = ConfigDict(frozen=True)

    format: int
    kind: Kind
    fingerprint: str  # of the data; see Dataset
    stamp: str  # sizes and times of their files
    decoder: str

    @classmethod
    def of(cls, dataset: Dataset, kind: Kind) -> Self:
        """What a store of these data would say of itself today."""
        return cls(format=FORMAT, kind=kind, fingerprint=dataset.fingerprint, stamp=dataset.stamp(), decoder=decoder())


class Manifest(BaseModel):
    """What a store holds, and of what; ``unusable`` has reason and line of the pictures that could not be read."""

    model_config = ConfigDict(frozen=True)

    source: Source
    id: str  # of this store, unlike that of any other
    spec: str
    place: str  # the folder from which the SPEC was seen
    num_pairs: int
    num_captions: int
    elapsed_s: float
    sizes: dict[str, int]
    index_sha256: str
    unusable: dict[int, tuple[Reason, str]]


def decoder() -> str:
    """What decides the pixels of a picture beside its file: the version of Pillow and of its decoders."""
    codecs = ("jpg", "zlib", "webp")
    versions = [f"{name} {features.version(name)}" for name in (*codecs, "libjpeg_turbo")]
    return ", ".join([f"pillow {PIL.__version__}", *versions])


class Store:
    """The pictures and texts of a store, by index; read by as many threads and processes as like, picklable."""

    def __init__(self, folder: Path) -> None:
        """Opens a store.

        Raises:
            ValueError: it is not whole: missing, cut short, or with another index than was written.
        """
        try:
            self.folder = folder
            self.manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            self._pictures, self._texts, self._index = (Mapped(folder / name) for name in (PICTURES, TEXTS, INDEX))
        except (OSError, ValueError) as error:
            raise ValueError(f"no whole store in '{folder}'") from error
        sizes = {PICTURES: len(self._pictures), TEXTS: len(self._texts), INDEX: len(self._index)}
        if sizes != self.manifest.sizes or self._index_sha256() != self.manifest.index_sha256:
            raise ValueError(f"the store in '{folder}' is damaged")

    def __len__(self) -> int:
        return self.manifest.num_pairs

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return _reopened, (self.folder, self.manifest.id)

    def sample(self, index: int) -> Sample:
        """One sample, as reading and decoding it would give it.

        Raises:
            PictureError: as when the store was made.
        """
        span = self._span(index)
        return Sample(*self._fields(span), self._image(index, span))

    def encoded(self, index: int) -> bytes:
        """The picture's file, where the store holds files."""
        assert self.manifest.source.kind == "jpeg"
        return bytes(self._data(index, self._span(index)))

    def text(self, index: int) -> SampleText:
        """One sample without its picture."""
        return self._text(self._span(index))

    def first_caption(self, index: int) -> int:
        """How many captions the pictures before this one have."""
        return self._span(index).first_caption

    def _span(self, index: int) -> Span:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        start = index * ROW.size
        begin, _, _, text, caption, end, width, height, text_end, _ = TWO_ROWS.unpack(
            self._index.read(start, start + TWO_ROWS.size)
        )
        return Span((begin, end), (width, height), (text, text_end), caption)

    def _text(self, span: Span) -> SampleText:
        return SampleText(*self._fields(span))

    def _fields(self, span: Span) -> tuple[str, tuple[str, ...], str, str | None]:
        key, captions, group, label = json.loads(str(self._texts.read(*span.text), "utf-8"))
        return key, tuple(captions), group, label

    def _image(self, index: int, span: Span) -> Image.Image:
        data = self._data(index, span)
        if self.manifest.source.kind == "pixels":
            image = Image.new("RGB", span.size, None)  # not filled first, as Image.frombytes would
            image.frombytes(data)
            return image
        try:
            return decode_image(bytes(data))
        except ImageError as error:
            raise error.at(f"{self.manifest.spec}, picture of {self._text(span).key!r}") from error

    def _data(self, index: int, span: Span) -> memoryview:
        if broken := self.manifest.unusable.get(index):
            raise ImageError(*broken)
        return self._pictures.read(*span.picture)

    def _index_sha256(self) -> str:
        digest = sha256()
        for start in range(0, len(self._index), HASHED_BYTES):
            digest.update(self._index.read(start, start + HASHED_BYTES))
        return digest.hexdigest()


def _reopened(folder: Path, id: str) -> Store:
    """The same store in another process."""
    store = Store(folder)
    if store.manifest.id != id:
        raise ValueError(f"the store in '{folder}' has been made anew: start again")
    return store
