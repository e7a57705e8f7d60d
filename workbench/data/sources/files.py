"""``ImageFiles``: a dataset of image files with captions from a list; the base of CSV, COCO, Parquet and class folders.

Shape letters: N images · M captions.
"""

import os
import stat
from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from workbench.data.dataset import Dataset, Sample, SampleText, ZeroShotTask, spread
from workbench.data.images import decode_image
from workbench.data.unusable import ImageError, Reading
from workbench.progress import with_bar


class Strings:
    """A list of byte strings in one buffer, with 8 bytes each for the end.

    Python strings have 50 bytes of overhead each, and their reference counts make every forked worker copy the pages.
    """

    def __init__(self) -> None:
        self._content = bytearray()
        self._ends = array("q", [0])

    def append(self, text: bytes) -> None:
        """Appends a string."""
        self._content += text
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._content[self._ends[index] : self._ends[index + 1]])

    def joined(self) -> bytes:
        """An unambiguous serialization, for hashing."""
        return self._ends.tobytes() + self._content


MAX_BYTES = 1 << 28
NUM_SAMPLED = 256  # files whose first bytes are part of the fingerprint
HEAD_BYTES = 4096
MANY_FILES = 200_000


class ImageList:
    """Collects images and captions while a list is read, in order of first mention.

    Args:
        num_images: keep only the first so many images; 0 for all.
    """

    def __init__(self, num_images: int = 0) -> None:
        self.names = Strings()
        self.captions = Strings()
        self.owner_M = array("q")
        self._rows: dict[bytes, int] = {}
        self._num_images = num_images

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, caption: str) -> None:
        """Adds a caption of the image file ``name``."""
        path = os.fsencode(name)
        row = self._rows.get(path)
        if row is None:
            row = len(self.names)
            if self._num_images and row == self._num_images:
                return
            self._rows[path] = row
            self.names.append(path)
        self.captions.append(caption.encode())
        self.owner_M.append(row)


class ImageFiles(Dataset):
    """Image files in the order of a list; an image's key is its file name in the list.

    Memory per image: its name and captions, plus 8 * (2 + 2 * captions) bytes; 0.4 GB for 3 million images with
    captions of 60 characters. Files are opened on access. A missing file is an ``ImageError`` then, not an error of
    the list: in lists of millions, some are always missing.
    """

    def __init__(
        self,
        listed: ImageList,
        folder: Path,
        source: str,
        *,
        class_N: Sequence[int] | None = None,
        task: ZeroShotTask | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Takes over a collected list.

        Args:
            folder: the folder that names are relative to.
            source: the list, as errors name it.
            class_N: class index of each image; images and captions of one class are positives of each other.
            task: the classes and their prompts.
            reading: what was left out of the list.
        """
        assert len(listed) > 0
        owner_M = np.frombuffer(listed.owner_M, np.int64)
        self._names, self._captions = listed.names, listed.captions
        self._caption_M = np.argsort(owner_M, kind="stable")  # by image; stable keeps the list's order within an image
        self._first_N = np.searchsorted(owner_M[self._caption_M], np.arange(len(listed) + 1))
        self._folder, self._source = folder, source
        self._class_N = class_N
        self.task = task
        self.reading = reading or Reading()
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        text, data = self.text(index), self.encoded(index)
        try:
            image = decode_image(data)
        except ImageError as error:
            raise error.at(f"{self._source}, image {text.key!r}") from error
        return Sample(**vars(text), image=image)

    def text(self, index: int) -> SampleText:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        key = self._names[index].decode("utf-8", "backslashreplace")
        rows = self._caption_M[self._first_N[index] : self._first_N[index + 1]]
        captions = tuple(self._captions[row].decode() for row in rows)
        if self._class_N is None or self.task is None:
            return SampleText(key, captions, key, None)
        number = self._class_N[index]
        return SampleText(key, captions, self.task.classes[number][0], self.task.labels[number])

    def encoded(self, index: int) -> bytes:
        try:
            return _read(self._path(index))
        except ImageError as error:
            raise error.at(f"{self._source}, image {self.text(index).key!r}") from error

    def stamp(self) -> str:
        """Hash of all files' sizes and modification times; some hundred thousand files per second on a local disk."""
        digest = sha256()
        folder = os.fsencode(self._folder)
        for index in with_bar(range(len(self)), "checking for changes", MANY_FILES):
            digest.update(_stamp(os.path.join(folder, self._names[index])))  # noqa: PTH118 - as below
        return digest.hexdigest()

    def _path(self, index: int) -> Path:
        return path_of(self._folder, self._names[index])

    def _fingerprint(self) -> str:
        """Hash of all names, captions and classes, and of size and first bytes of 256 files.

        A change of other files goes unnoticed: reading each of millions would take minutes.
        """
        digest = sha256(repr((len(self), self.task and self.task.classes)).encode())
        for part in (self._names.joined(), self._captions.joined(), self._caption_M.tobytes(), self._first_N.tobytes()):
            digest.update(part)
        if self._class_N is not None:
            digest.update(np.array(self._class_N, np.int64).tobytes())
        for part in self._image_parts():
            digest.update(part)
        return digest.hexdigest()

    def _image_parts(self) -> Iterable[bytes]:
        """What the fingerprint covers of the images."""
        return (_head(self._path(index)) for index in spread(len(self), NUM_SAMPLED))


def path_of(folder: Path, name: bytes) -> Path:
    """The path of a name relative to a folder."""
    return folder / os.fsdecode(name)


def base_folder(listed: ImageList, folders: Sequence[Path], source: str) -> Path:
    """The first of the folders in which any of 256 sampled names of the list exists."""
    names = [listed.names[index] for index in spread(len(listed), NUM_SAMPLED)]
    for folder in folders:
        if any(path_of(folder, name).exists() for name in names):
            return folder
    first = listed.names[0].decode("utf-8", "backslashreplace")
    searched = " or ".join(f"'{folder}'" for folder in folders)
    raise ValueError(
        f"no image of {source} exists in {searched}, first {first!r}: write paths relative to that, or absolute ones"
    )


def _read(path: Path) -> bytes:
    """The bytes of an image's file."""
    name = repr(str(path))  # repr: one line, whatever characters are in it
    try:
        status = path.stat()
        is_usable = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES  # reading a pipe would block
        data = path.read_bytes() if is_usable else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing file", f"there is no {name}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise ImageError("unreadable file", f"{name} cannot be read ({error})") from error
    if not is_usable:
        raise ImageError("unreadable file", f"{name} is not a file of at most {MAX_BYTES} bytes")
    return data


def _stamp(path: bytes) -> bytes:
    """Size and modification time of a file; a placeholder if it is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - ten times as fast as Path, for millions of files
    except (OSError, ValueError):
        return b"-"
    return b"%d %d " % (status.st_size, status.st_mtime_ns)


def _head(path: Path) -> bytes:
    """Size and first bytes of a file; empty if it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return b""
        with path.open("rb") as file:
            return b"%d " % status.st_size + file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""
