"""Writes a dataset's store, in one pass and constant memory, and finds it again."""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workbench.cache.entries import CacheEstimate
from workbench.cache.identity import digest_of
from workbench.data.cached.store import (
    IMAGES,
    INDEX,
    MANIFEST,
    ROW,
    STORES,
    TEXTS,
    Kind,
    Manifest,
    Source,
    Store,
    Views,
)
from workbench.data.dataset import Dataset
from workbench.data.parallel import decoding_threads, look_ahead, or_bad_image
from workbench.data.unusable import BadImageCount, ImageError
from workbench.embeddings import BadImage
from workbench.files import new_folder, sweep
from workbench.process import folder_lock

NUM_TRIED = 24
ENTRY_BYTES = 60  # an image's row in the index, and the JSON around its text


class Content(NamedTuple):
    """An image in a store: bytes, and width and height in pixels (0 for an original file)."""

    data: bytes = b""
    width: int = 0
    height: int = 0


Show = Callable[[Iterable[Content | BadImage]], Iterable[Content | BadImage]]


def estimate_store(dataset: Dataset, kind: Kind) -> CacheEstimate:
    """Estimates size and time of a store from a few images spread over the dataset."""
    tried = dataset.probed(NUM_TRIED)
    start = time.perf_counter()
    contents = [content_of(dataset, kind, index) for index in tried]
    image_s = (time.perf_counter() - start) / len(tried)
    texts = [dataset.text(index) for index in tried]
    image_bytes = sum(len(content.data) for content in contents if not isinstance(content, BadImage))
    text_bytes = sum(len(text.key + text.group) + sum(map(len, text.captions)) for text in texts)
    each_bytes = ENTRY_BYTES + (image_bytes + text_bytes) / len(tried)
    return CacheEstimate(round(len(dataset) * each_bytes), len(dataset) * image_s / decoding_threads())


def find_store(dataset: Dataset, kind: Kind) -> Store | None:
    """The dataset's store; None if there is none, or if it is stale or damaged."""
    folder = _folder(dataset, kind)
    if not folder.exists():
        return None
    with suppress(ValueError):
        store = Store(folder)
        if store.manifest.source == Source.of(dataset, kind) and not _is_readable_now(dataset, store):
            return store
    return None


def make_store(dataset: Dataset, kind: Kind, *, spec: str, num_bytes: int, show: Show) -> Store:
    """Writes the dataset's store, and removes stores of older data with the same name; see :func:`write_store`.

    Of two processes that want the same store, one writes it and the other waits. A killed process leaves only a
    temporary folder, which the next one removes.

    Args:
        num_bytes: estimated size, for the error if the disk is full.
    """
    folder = _folder(dataset, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder.parent, "prepares the same data"):
        if (found := find_store(dataset, kind)) is not None:  # another process made it while this one waited
            return found
        for parent in STORES.home.iterdir():
            sweep(parent)
        with new_folder(folder, num_bytes=num_bytes, replace=True) as temporary:
            write_store(dataset, Source.of(dataset, kind), temporary, spec=spec, show=show)
    store = Store(folder)
    for other in STORES.entries():
        if _name(other.manifest) == _name(store.manifest) and other.manifest.id != store.manifest.id:
            STORES.remove(other.folder)
    return store


def write_store(dataset: Dataset, source: Source, folder: Path, *, spec: str, show: Show = iter) -> None:
    """Writes a store into an empty (temporary) folder.

    Args:
        source: kind of the store and identity of the data.
        spec: name of the store in lists and errors.
        show: wraps the iteration over images in a progress bar.

    Raises:
        ValueError: too many images are unusable; see :class:`~workbench.data.unusable.BadImageCount`.
        OSError: the disk is full, or not writable.
    """
    start = time.perf_counter()
    rows, unusable = _write_data(dataset, source.keeps, folder, show)
    manifest = Manifest.model_validate(
        {
            "source": source,
            "id": secrets.token_hex(16),
            "spec": spec,
            "place": str(Path.cwd()),
            "num_pairs": len(dataset),
            "num_captions": rows.num_captions,
            "elapsed_s": time.perf_counter() - start,
            "sizes": {name: (folder / name).stat().st_size for name in (IMAGES, TEXTS, INDEX)},
            "index_sha256": rows.digest.hexdigest(),
            "unusable": unusable,
        }
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


def content_of(dataset: Dataset, kind: Kind, index: int) -> Content | BadImage:
    """An image as a store holds it, or why it is unusable. Original files ("jpeg") are not decoded."""

    def read() -> Content:
        if kind == "jpeg":
            return Content(dataset.encoded(index))
        sample = dataset[index]
        if isinstance(kind, Views):
            crops = [kind.crop.cropped_HWC(sample.image, sample.key, view) for view in range(kind.num_views)]
            return Content(b"".join(crop_HWC.transpose(2, 0, 1).tobytes() for crop_HWC in crops))
        return Content(sample.image.tobytes(), *sample.image.size)

    return or_bad_image(read)


def _folder(dataset: Dataset, kind: Kind) -> Path:
    name = kind.model_dump_json() if isinstance(kind, Views) else kind
    return STORES.folder(digest_of(f"{name} {dataset.fingerprint}"))


def _name(manifest: Manifest) -> tuple[str, str, str, Views | None]:
    """Equal for stores of one SPEC, folder and kind, whose data may have changed in between."""
    return manifest.spec, manifest.place, manifest.source.kind, manifest.source.views


def _is_readable_now(dataset: Dataset, store: Store) -> bool:
    """Whether an image is readable that was not when the store was made, for example on an unmounted disk."""
    for index, (reason, _) in store.manifest.unusable.items():
        if reason == "unreadable file":
            with suppress(ImageError):
                dataset.encoded(index)
                return True
    return False


def _write_data(dataset: Dataset, kind: Kind, folder: Path, show: Show) -> tuple["_Rows", dict[int, BadImage]]:
    """Writes images, texts and index; returns the index and the unusable images, which have an empty row."""
    unusable: dict[int, BadImage] = {}
    count = BadImageCount()
    count.add(len(dataset), [])  # the limit is a share of all images, not of those seen so far
    with ExitStack() as files:
        images, texts, index = (files.enter_context((folder / name).open("wb")) for name in (IMAGES, TEXTS, INDEX))
        rows = _Rows(index)
        contents: Iterator[Content | BadImage] = look_ahead(partial(content_of, dataset, kind), range(len(dataset)))
        for number, found in enumerate(show(contents)):
            if isinstance(found, BadImage):
                unusable[number] = found
                count.add(0, [found])
                count.check()
            content = Content() if isinstance(found, BadImage) else found
            text = dataset.text(number)
            fields = [text.key, text.captions, text.group, text.label]
            line = json.dumps([*fields, text.num_synthetic] if text.num_synthetic else fields).encode()
            images.write(content.data)
            texts.write(line)
            rows.add(content, len(line), len(text.captions))
    return rows, unusable


class _Rows:
    """Writes the index: row i ends image i - 1, and row 0 is zeros, so that two rows give a range."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self._image_end = self._text_end = self.num_captions = 0
        self._write(0, 0)

    def add(self, content: Content, text_bytes: int, num_captions: int) -> None:
        """Appends the row of one image."""
        self._image_end += len(content.data)
        self._text_end += text_bytes
        self.num_captions += num_captions
        self._write(content.width, content.height)

    def _write(self, width: int, height: int) -> None:
        row = ROW.pack(self._image_end, width, height, self._text_end, self.num_captions)
        self._file.write(row)
        self.digest.update(row)
