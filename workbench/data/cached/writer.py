"""Writes a dataset into the files of a store, in one pass and constant memory."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workbench.data.cached.store import IMAGES, INDEX, MANIFEST, ROW, TEXTS, Entry, Kind, Manifest, Source
from workbench.data.dataset import Dataset
from workbench.data.parallel import look_ahead
from workbench.data.unusable import BadImageCount, ImageError
from workbench.embeddings import BadImage

MAX_THREADS = 8


class Content(NamedTuple):
    """An image in a store: bytes, and width and height in pixels (0 for an original file)."""

    data: bytes = b""
    width: int = 0
    height: int = 0


Show = Callable[[Iterable[Content | BadImage]], Iterable[Content | BadImage]]


def write_store(dataset: Dataset, source: Source, folder: Path, *, spec: str, show: Show) -> None:
    """Writes a store into an empty (temporary) folder.

    Args:
        source: kind of the store and identity of the data.
        spec: name of the store in lists and errors.
        show: wraps the iteration over images in a progress bar.

    Raises:
        ValueError: too many images are unusable; see :class:`~workbench.data.unusable.BadImageCount`.
        OSError: the disk is full.
    """
    start = time.perf_counter()
    rows, unusable = _write_data(dataset, source.kind, folder, show)
    manifest = Manifest.model_validate(
        {
            "source": source,
            "id": secrets.token_hex(16),
            "spec": spec,
            "place": str(Path.cwd()),
            "num_pairs": len(dataset),
            "num_captions": rows.last.num_captions,
            "elapsed_s": time.perf_counter() - start,
            "sizes": {name: (folder / name).stat().st_size for name in (IMAGES, TEXTS, INDEX)},
            "index_sha256": rows.digest.hexdigest(),
            "unusable": unusable,
        }
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


def _write_data(dataset: Dataset, kind: Kind, folder: Path, show: Show) -> tuple["_Rows", dict[int, BadImage]]:
    """Writes images, texts and index; returns the index and the unusable images, which have an empty row."""
    unusable: dict[int, BadImage] = {}
    count = BadImageCount()
    count.add(len(dataset), [])  # the limit is a share of all images, not of those seen so far
    with ExitStack() as files:
        images, texts, index = (files.enter_context((folder / name).open("wb")) for name in (IMAGES, TEXTS, INDEX))
        rows = _Rows(index)
        for number, found in enumerate(show(_contents(dataset, kind))):
            if isinstance(found, BadImage):
                unusable[number] = found
                count.add(0, [found])
                count.check()
            content = Content() if isinstance(found, BadImage) else found
            text = dataset.text(number)
            line = json.dumps([text.key, text.captions, text.group, text.label]).encode()
            images.write(content.data)
            texts.write(line)
            rows.add(content, len(line), len(text.captions))
    return rows, unusable


def num_threads() -> int:
    """Number of decoding threads while a store is written."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def content_of(dataset: Dataset, index: int, kind: Kind) -> Content | BadImage:
    """An image as a store holds it, or why it is unusable. Original files ("jpeg") are not decoded."""
    try:
        if kind == "jpeg":
            return Content(dataset.encoded(index))
        image = dataset[index].image
    except ImageError as error:
        return BadImage(error.reason, str(error))
    return Content(image.tobytes(), *image.size)


def _contents(dataset: Dataset, kind: Kind) -> Iterator[Content | BadImage]:
    threads = num_threads()
    return look_ahead(
        lambda index: content_of(dataset, index, kind), range(len(dataset)), num_threads=threads, depth=2 * threads
    )


class _Rows:
    """Writes the index: row i ends image i - 1, and row 0 is zeros, so that two rows give a range."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self.last = Entry(0, 0, 0, 0, 0)
        self._write()

    def add(self, content: Content, text_bytes: int, num_captions: int) -> None:
        """Appends the row of one image."""
        last = self.last
        self.last = Entry(
            last.image_end + len(content.data),
            content.width,
            content.height,
            last.text_end + text_bytes,
            last.num_captions + num_captions,
        )
        self._write()

    def _write(self) -> None:
        row = ROW.pack(*self.last)
        self._file.write(row)
        self.digest.update(row)
