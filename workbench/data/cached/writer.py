"""Pictures and texts -> the files of a store, in one pass and in memory that does not grow with them.

Shape letter: N pictures."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workbench.data.cached.store import INDEX, MANIFEST, PICTURES, ROW, TEXTS, Entry, Kind, Manifest, Source
from workbench.data.dataset import Dataset
from workbench.data.parallel import look_ahead
from workbench.data.unusable import BadImageCount, ImageError
from workbench.embeddings import BadImage

MAX_THREADS = 8


class Content(NamedTuple):
    """A picture as a store holds it: bytes, and its width and height in pixels (0 of a file kept as it is)."""

    data: bytes = b""
    width: int = 0
    height: int = 0


Show = Callable[[Iterable[Content | BadImage]], Iterable[Content | BadImage]]


def write_store(dataset: Dataset, source: Source, folder: Path, *, spec: str, show: Show) -> None:
    """Writes a store of the data into an empty folder. Whoever calls it moves the folder to its place.

    Args:
        source: says what is kept of a picture, and whose they are.
        spec: what the store is called in lists and errors.
        show: passes the pictures on, and shows how far they have come.

    Raises:
        ValueError: too many pictures cannot be used; see :class:`~workbench.data.unusable.Tally`.
        OSError: there is no room.
    """
    start = time.perf_counter()
    unusable: dict[int, BadImage] = {}
    tally = BadImageCount()
    tally.add(len(dataset), [])
    with ExitStack() as files:
        pictures, texts, index = (files.enter_context((folder / name).open("wb")) for name in (PICTURES, TEXTS, INDEX))
        rows = _Rows(index)
        for number, found in enumerate(show(_contents(dataset, source.kind))):
            if isinstance(found, BadImage):
                unusable[number] = found
                tally.add(0, [found])
                tally.check()
            content = Content() if isinstance(found, BadImage) else found
            text = dataset.text(number)
            line = json.dumps([text.key, text.captions, text.group, text.label]).encode()
            pictures.write(content.data)
            texts.write(line)
            rows.add(content, len(line), len(text.captions))
    manifest = Manifest.model_validate(
        {
            "source": source,
            "id": secrets.token_hex(16),
            "spec": spec,
            "place": str(Path.cwd()),
            "num_pairs": len(dataset),
            "num_captions": rows.last.num_captions,
            "elapsed_s": time.perf_counter() - start,
            "sizes": {name: (folder / name).stat().st_size for name in (PICTURES, TEXTS, INDEX)},
            "index_sha256": rows.digest.hexdigest(),
            "unusable": unusable,
        }
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


def num_threads() -> int:
    """Threads that decode while a store is written."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def content_of(dataset: Dataset, index: int, kind: Kind) -> Content | BadImage:
    """A picture as a store holds it, or why it cannot be used. A file that is kept is not decoded."""
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
    """The index as it is written: row i says where the bytes of picture i - 1 end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self.last = Entry(0, 0, 0, 0, 0)
        self._write()

    def add(self, content: Content, text_bytes: int, num_captions: int) -> None:
        """One picture more."""
        last = self.last
        self.last = Entry(
            last.picture_end + len(content.data),
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
