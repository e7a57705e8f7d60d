"""A store: the decoded images (or original files) and texts of a dataset, and the dataset that reads it.

- ``pictures.bin``: all images, concatenated: pixels (uint8 [H, W, 3]) or the bytes of the original files.
- ``texts.bin``: a JSON list per image: key, captions, group, class.
- ``index.bin``: five int64 per image, after a row of zeros: end of its bytes, width and height (0 if unknown), end of
  its text, number of captions up to and including it.
- ``tokens-ID.bin``: the tokens of all captions, int32, for each tokenizer that has read them.
- ``store.json``: the manifest, with the identity of the data. Written last, so that it marks a complete store.
"""

import json
import struct
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict

from workbench.cache.arrays import RandomFile
from workbench.cache.entries import EntryKind
from workbench.cache.identity import decoder
from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.images import decode_image
from workbench.data.unusable import ImageError, Reason
from workbench.embeddings import InputSpec
from workbench.files import new_file
from workbench.progress import progress

FORMAT = 1  # increase it when the files of the same data change
IMAGES, TEXTS, INDEX, MANIFEST = "pictures.bin", "texts.bin", "index.bin", "store.json"
ROW, TWO_ROWS = struct.Struct("<5q"), struct.Struct("<10q")
HASHED_BYTES = 1 << 20
PER_CALL = 1024  # captions that are tokenized at once
MANY = 50_000  # captions that deserve a progress bar

Kind = Literal["pixels", "jpeg"]


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


STORES = EntryKind("prepared", "store", MANIFEST, Manifest, lambda it: (it.spec, it.source.kind, it.id))


class _Span(NamedTuple):
    """Byte ranges of an image and its text, its size, and the number of captions before its own."""

    image: tuple[int, int]
    size: tuple[int, int]
    text: tuple[int, int]
    first_caption: int


class Store:
    """Random access to the images and texts of a store; safe for threads and processes, picklable."""

    def __init__(self, folder: Path) -> None:
        """Opens a store.

        Raises:
            ValueError: incomplete: missing, truncated, or with a different index than was written.
        """
        try:
            self.folder = folder
            self.manifest = STORES.read(folder)
            self._images, self._texts, self._index = (RandomFile(folder / name) for name in (IMAGES, TEXTS, INDEX))
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
        return self._data(index, self._span(index))

    def text(self, index: int) -> SampleText:
        """One sample without its image."""
        return SampleText(*self._fields(self._span(index)))

    def first_caption(self, index: int) -> int:
        """Number of captions of all earlier images."""
        return self._span(index).first_caption

    def _span(self, index: int) -> _Span:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        start = index * ROW.size
        # Image i is between the ends in rows i and i + 1; its size is in row i + 1.
        image_start, _, _, text_start, first_caption, image_end, width, height, text_end, _ = TWO_ROWS.unpack(
            self._index.read(start, start + TWO_ROWS.size)
        )
        return _Span((image_start, image_end), (width, height), (text_start, text_end), first_caption)

    def _fields(self, span: _Span) -> tuple[str, tuple[str, ...], str, str | None]:
        key, captions, group, label = json.loads(self._texts.read(*span.text))
        return key, tuple(captions), group, label

    def _image(self, index: int, span: _Span) -> Image.Image:
        data = self._data(index, span)
        if self.manifest.source.kind == "pixels":
            image = Image.new("RGB", span.size, None)  # uninitialized: Image.frombytes would fill it first
            image.frombytes(data)
            return image
        try:
            return decode_image(data)
        except ImageError as error:
            raise error.at(f"{self.manifest.spec}, image of {self._fields(span)[0]!r}") from error

    def _data(self, index: int, span: _Span) -> bytes:
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


class PreparedDataset(Dataset):
    """The pairs of a store: same samples, order and fingerprint as the dataset that it was made from."""

    def __init__(self, store: Store, dataset: Dataset | None = None) -> None:
        self.store = store
        if dataset is not None:
            self.name, self.reading, self.task = dataset.name, dataset.reading, dataset.task
        self.fingerprint = store.manifest.source.fingerprint
        self._tokens: dict[str, RandomFile] = {}

    def keep_tokens(self, form: InputSpec) -> None:
        """Makes ``tokens`` return this model's tokens; writes them now if they are not cached yet.

        Raises:
            OSError: the disk is full, or not writable.
        """
        path = self.store.folder / f"tokens-{sha256(form.tokenizer_id.encode()).hexdigest()[:16]}.bin"
        row_bytes = form.tokenize([""]).shape[1] * np.dtype(np.int32).itemsize
        if not path.exists() or path.stat().st_size != self.store.manifest.num_captions * row_bytes:
            _write_tokens(path, self.store, form)
        self._tokens[form.tokenizer_id] = RandomFile(path)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Sample:
        return self.store.sample(index)

    def text(self, index: int) -> SampleText:
        return self.store.text(index)

    def encoded(self, index: int) -> bytes:
        return self.store.encoded(index)

    def stamp(self) -> str:
        """The stamp of the data when the store was made."""
        return self.store.manifest.source.stamp

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        rows = self._tokens.get(tokenizer_id)
        if rows is None:
            return None
        row_bytes = len(rows) // self.store.manifest.num_captions
        start = (self.store.first_caption(index) + caption) * row_bytes
        return np.frombuffer(rows.read(start, start + row_bytes), np.int32)


def _write_tokens(path: Path, store: Store, form: InputSpec) -> None:
    """Writes a temporary file and renames it: two processes at once write the same content."""
    num_captions = store.manifest.num_captions
    captions: Iterator[str] = (caption for index in range(len(store)) for caption in store.text(index).captions)
    if num_captions >= MANY:
        captions = progress(captions, num_captions, "tokenizing", "captions", store.manifest.spec)
    with new_file(path) as temporary, temporary.open("wb") as file:
        while some := list(islice(captions, PER_CALL)):
            file.write(form.tokenize(some).numpy().astype(np.int32).tobytes())
