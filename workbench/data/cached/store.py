"""A store: the images and texts of a dataset, and the datasets that read it.

- ``pictures.bin``: all images, concatenated: pixels (uint8 [H, W, 3]), the bytes of the original files, or the crops of
  all views (uint8 [K, 3, S, S] of S pixels).
- ``texts.bin``: a JSON list per image: key, captions, group, class, number of synthetic captions if there are any.
- ``index.bin``: five int64 per image, after a row of zeros: end of its bytes, width and height (0 if unknown), end of
  its text, number of captions up to and including it.
- ``tokens-ID.bin``: the tokens of all captions, int32, for each tokenizer that has read them.
- ``store.json``: the manifest, with the identity of the data. Written last, so that it marks a complete store.
"""

import json
import struct
from collections.abc import Iterator, Sequence
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
from workbench.data.crops import CropSpec, Pixels
from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.dataset import Source as BatchSource
from workbench.data.images import decode_image
from workbench.data.unusable import ImageError, Reason
from workbench.embeddings import InputSpec
from workbench.files import new_file
from workbench.progress import progress

FORMAT = 1  # increase it when the files of the same data change
IMAGES, TEXTS, INDEX, MANIFEST = "pictures.bin", "texts.bin", "index.bin", "store.json"
ROW, TWO_ROWS = struct.Struct("<5q"), struct.Struct("<10q")
HASHED_BYTES = 1 << 20
MAX_HELD_BYTES = 1 << 25
PER_CALL = 1024  # captions that are tokenized at once
MANY = 50_000  # captions that deserve a progress bar


class Views(BaseModel):
    """The crops of every image that a run with ``data.views`` = ``num_views`` repeats."""

    model_config = ConfigDict(frozen=True)

    num_views: int
    crop: CropSpec

    def __str__(self) -> str:
        number = f"{self.num_views} view" + "s" * (self.num_views != 1)
        return f"{number} of {self.crop.image_size} px, data seed {self.crop.seed}"


Kind = Literal["pixels", "jpeg"] | Views  # what a store keeps of each image


class Source(BaseModel):
    """Identity of the data in a store; the store is stale if it differs."""

    model_config = ConfigDict(frozen=True)

    format: int
    kind: Literal["pixels", "jpeg", "views"]
    views: Views | None = None
    fingerprint: str  # Dataset.fingerprint
    stamp: str  # Dataset.stamp
    decoder: str

    @classmethod
    def of(cls, dataset: Dataset, kind: Kind) -> Self:
        """The identity of the dataset as it is now."""
        views = kind if isinstance(kind, Views) else None
        return cls(
            format=FORMAT,
            kind="views" if isinstance(kind, Views) else kind,
            views=views,
            fingerprint=dataset.fingerprint,
            stamp=dataset.stamp(),
            decoder=decoder(),
        )

    @property
    def keeps(self) -> Kind:
        """What the store keeps of each image."""
        assert self.kind != "views" or self.views is not None
        return self.views if self.kind == "views" and self.views else "jpeg" if self.kind == "jpeg" else "pixels"


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
        # A small index is held, since a batch looks up each pair thrice: its crop, its text and its tokens.
        self._rows = self._index.read(0, sizes[INDEX]) if sizes[INDEX] <= MAX_HELD_BYTES else b""

    def __len__(self) -> int:
        return self.manifest.num_pairs

    def will_need(self, samples: range) -> None:
        """Announces that the images of these samples will be read soon."""
        self._images.will_need(self._span(samples.start).image[0], self._span(samples.stop - 1).image[1])

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return _reopened, (self.folder, self.manifest.id)

    def sample(self, index: int) -> Sample:
        """One sample, equal to the one that live decoding gives.

        Raises:
            ImageError: the image was unusable when the store was made.
        """
        span = self._span(index)
        return Sample(**vars(self._text(span)), image=self._image(index, span))

    def crop(self, index: int, view: int) -> Pixels:
        """The crop of a view, uint8 [H, W, 3], if the store holds crops. Raises ImageError as ``sample`` does."""
        views = self.manifest.source.views
        assert views is not None
        size = views.crop.image_size
        if broken := self.manifest.unusable.get(index):
            raise ImageError(*broken)
        start = self._span(index).image[0] + view * 3 * size**2
        data = self._images.read(start, start + 3 * size**2)
        # Channels first in the file, as in a batch, into which the bytes are copied as they are.
        return np.frombuffer(data, np.uint8).reshape(3, size, size).transpose(1, 2, 0)

    def encoded(self, index: int) -> bytes:
        """The image file, if the store holds files."""
        assert self.manifest.source.kind == "jpeg"
        return self._data(index, self._span(index))

    def text(self, index: int) -> SampleText:
        """One sample without its image."""
        return self._text(self._span(index))

    def first_caption(self, index: int) -> int:
        """Number of captions of all earlier images."""
        return self._span(index).first_caption

    def _span(self, index: int) -> _Span:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        start = index * ROW.size
        # Image i is between the ends in rows i and i + 1; its size is in row i + 1.
        image_start, _, _, text_start, first_caption, image_end, width, height, text_end, _ = TWO_ROWS.unpack(
            self._rows[start : start + TWO_ROWS.size] or self._index.read(start, start + TWO_ROWS.size)
        )
        return _Span((image_start, image_end), (width, height), (text_start, text_end), first_caption)

    def _text(self, span: _Span) -> SampleText:
        key, captions, group, label, *more = json.loads(self._texts.read(*span.text).decode())
        return SampleText(key, tuple(captions), group, label, num_synthetic=more[0] if more else 0)

    def _image(self, index: int, span: _Span) -> Image.Image:
        data = self._data(index, span)
        if self.manifest.source.kind == "pixels":
            image = Image.new("RGB", span.size, None)  # uninitialized: Image.frombytes would fill it first
            image.frombytes(data)
            return image
        try:
            return decode_image(data)
        except ImageError as error:
            raise error.at(f"{self.manifest.spec}, image of {self._text(span).key!r}") from error

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
        # The order of the data that it was made from, whose images lie in the same order here.
        self._shard_sizes = dataset.shard_sizes if dataset is not None else ((),)
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

    @property
    def shard_sizes(self) -> Sequence[Sequence[int]]:
        return self._shard_sizes

    def will_need(self, samples: range) -> None:
        self.store.will_need(samples)

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        rows = self._tokens.get(tokenizer_id)
        if rows is None:
            return None
        row_bytes = len(rows) // self.store.manifest.num_captions
        start = (self.store.first_caption(index) + caption) * row_bytes
        return np.frombuffer(rows.read(start, start + row_bytes), np.int32)


class CroppedDataset(PreparedDataset):
    """A dataset with cached training crops; whole images are read from the dataset itself."""

    def __init__(self, stores: Sequence[Store], dataset: Dataset) -> None:
        """Takes stores of the same views in each image size; texts and tokens are those of the first."""
        super().__init__(stores[0], dataset)
        self._dataset = dataset
        self._crops = {views.crop: store for store in stores if (views := store.manifest.source.views)}

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(index)

    def probed(self, count: int) -> Sequence[int]:
        return self._dataset.probed(count)

    def will_need(self, samples: range) -> None:
        """Announces nothing: the crops of all views lie together, and only one of each is needed."""

    def crop(self, index: int, view: int, spec: CropSpec) -> Pixels | None:
        store = self._crops.get(spec)
        return store.crop(index, view) if store else None

    @property
    def sources(self) -> Sequence[BatchSource]:
        return self._dataset.sources


def _write_tokens(path: Path, store: Store, form: InputSpec) -> None:
    """Writes a temporary file and renames it: two processes at once write the same content."""
    num_captions = store.manifest.num_captions
    captions: Iterator[str] = (caption for index in range(len(store)) for caption in store.text(index).captions)
    if num_captions >= MANY:
        captions = progress(captions, num_captions, "tokenizing", "captions", store.manifest.spec)
    with new_file(path) as temporary, temporary.open("wb") as file:
        while some := list(islice(captions, PER_CALL)):
            file.write(form.tokenize(some).numpy().astype(np.int32).tobytes())
