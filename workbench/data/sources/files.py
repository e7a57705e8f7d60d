"""Pictures that lie in files of their own, with captions from elsewhere: what CSV, COCO and folders have in common.

Shape letters: N pictures · M captions."""

import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.images import decode_image
from workbench.data.unusable import ImageError, Reading
from workbench.progress import with_bar

# Many short texts in little memory.


class Strings:
    """A list of byte strings, kept end to end with 8 bytes each for where it ends.

    As Python strings they would take 50 bytes each beyond their letters, and every process that decodes would come to
    hold a copy of its own.
    """

    def __init__(self) -> None:
        self._content = bytearray()
        self._ends = array("q", [0])

    def append(self, text: bytes) -> None:
        """Adds one at the end."""
        self._content += text
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._content[self._ends[index] : self._ends[index + 1]])

    def joined(self) -> bytes:
        """All of them as one byte string, which no other list of as many has."""
        return self._ends.tobytes() + self._content


MAX_BYTES = 1 << 28
NUM_LOOKED_AT = 256  # files whose bytes count in the fingerprint
HEAD_BYTES = 4096
MANY_FILES = 200_000


class ImageList:
    """Pictures and captions as they are read from a list, in any order; the first mention gives a picture its place.

    Args:
        num_pictures: how many at most, the first ones; 0 for all.
    """

    def __init__(self, num_pictures: int = 0) -> None:
        self.names = Strings()
        self.captions = Strings()
        self.owner_M = array("q")
        self._rows: dict[bytes, int] = {}
        self._num_pictures = num_pictures

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, caption: str) -> None:
        """One caption of the picture in the file ``name``."""
        path = os.fsencode(name)
        row = self._rows.get(path)
        if row is None:
            row = len(self.names)
            if self._num_pictures and row == self._num_pictures:
                return
            self._rows[path] = row
            self.names.append(path)
        self.captions.append(caption.encode())
        self.owner_M.append(row)


class ImageFiles(Dataset):
    """Pictures in files, in the order of a list; a picture's key is its file's name in that list.

    A picture takes the bytes of its name and captions and 8 times (2 + 2 captions) more: 0.4 GB for 3 million with
    captions of 60 letters. Files are opened when their picture is asked for; one that is missing by then is a
    ``ImageError``, for in a list of millions some always are.
    """

    def __init__(
        self,
        listed: ImageList,
        folder: Path,
        source: str,
        *,
        class_N: Sequence[int] | None = None,
        classes: tuple[tuple[str, ...], ...] | None = None,
        templates: tuple[str, ...] = (),
        reading: Reading | None = None,
    ) -> None:
        """Takes over what was listed.

        Args:
            folder: where the names begin.
            source: the list, as errors name it.
            class_N: the class of each picture; pictures of one class are true of one another's captions.
            classes: the names of the classes.
            templates: prompts for zero-shot classification among them.
            reading: what was left out of the list.
        """
        assert len(listed) > 0
        owner_M = np.frombuffer(listed.owner_M, np.int64)
        self._names, self._captions = listed.names, listed.captions
        self._caption_M = np.argsort(owner_M, kind="stable")  # captions in the order of their pictures
        self._first_N = np.searchsorted(owner_M[self._caption_M], np.arange(len(listed) + 1))
        self._folder, self._source = folder, source
        self._class_N = class_N
        self.classes, self.templates = classes, templates
        self.reading = reading or Reading()
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample.

        Raises:
            IndexError: there is no such sample.
            PictureError: the file is missing, or cannot be read or decoded.
        """
        text, data = self.text(index), self.encoded(index)
        try:
            image = decode_image(data)
        except ImageError as error:
            raise error.at(f"{self._source}, picture {text.key!r}") from error
        return Sample(text.key, text.captions, text.group, text.label, image)

    def text(self, index: int) -> SampleText:
        """One sample without its picture, from memory."""
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        key = self._names[index].decode("utf-8", "backslashreplace")
        captions = tuple(caption.decode() for caption in self._captions_of(index))
        if self._class_N is None or self.classes is None:
            return SampleText(key, captions, key, None)
        label = self.classes[self._class_N[index]][0]
        return SampleText(key, captions, label, label)

    def encoded(self, index: int) -> bytes:
        """The file of one sample's picture.

        Raises:
            PictureError: it is missing, or cannot be read.
        """
        try:
            return _read(self._path(index))
        except ImageError as error:
            raise error.at(f"{self._source}, picture {self.text(index).key!r}") from error

    def stamp(self) -> str:
        """Of all files' sizes and times: a second for some hundred thousand on a disk of this machine."""
        digest = sha256()
        folder = os.fsencode(self._folder)
        for index in with_bar(range(len(self)), "looking for changes", MANY_FILES):
            digest.update(_stamp(os.path.join(folder, self._names[index])))  # noqa: PTH118 - as below
        return digest.hexdigest()

    def _path(self, index: int) -> Path:
        return path_of(self._folder, self._names[index])

    def _captions_of(self, index: int) -> Iterator[bytes]:
        for place in range(self._first_N[index], self._first_N[index + 1]):
            yield self._captions[self._caption_M[place]]

    def _fingerprint(self) -> str:
        """Of all names, captions and classes, and of the size and the first bytes of some of the files.

        Others may be replaced without being noticed: to look at each would take minutes for millions.
        """
        digest = sha256(repr((len(self), self.classes)).encode())
        for part in (self._names.joined(), self._captions.joined(), self._caption_M.tobytes(), self._first_N.tobytes()):
            digest.update(part)
        if self._class_N is not None:
            digest.update(np.array(self._class_N, np.int64).tobytes())
        for index in spread(len(self), NUM_LOOKED_AT):
            digest.update(_head(self._path(index)))
        return digest.hexdigest()


def path_of(folder: Path, name: bytes) -> Path:
    """The file that a name means, seen from a folder."""
    return folder / os.fsdecode(name)


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` of the numbers below ``total``, evenly from first to last."""
    places = np.linspace(0, total - 1, min(count, total))
    return [int(place) for place in np.unique(places.round())]


def begins_at(listed: ImageList, folders: Sequence[Path], source: str) -> Path:
    """The first of the folders from which files of the list are found; some hundred from all over it are looked for.

    Raises:
        ValueError: none is found from any of them.
    """
    names = [listed.names[index] for index in spread(len(listed), NUM_LOOKED_AT)]
    for folder in folders:
        if any(path_of(folder, name).exists() for name in names):
            return folder
    first = listed.names[0].decode("utf-8", "backslashreplace")
    places = " or ".join(f"'{folder}'" for folder in folders)
    raise ValueError(
        f"no picture of {source} is found from {places}, first {first!r}: write its paths as seen from there, or whole"
    )


def _read(path: Path) -> bytes:
    """The bytes of a picture's file."""
    name = repr(str(path))  # whatever letters are in it, on one line
    try:
        status = path.stat()
        is_usable = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES  # a pipe would keep us waiting
        data = path.read_bytes() if is_usable else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing file", f"there is no {name}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise ImageError("unreadable file", f"{name} cannot be read ({error})") from error
    if not is_usable:
        raise ImageError("unreadable file", f"{name} is no file of at most {MAX_BYTES} bytes")
    return data


def _stamp(path: bytes) -> bytes:
    """The size and time of a file; nothing of one that is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - ten times as quick as Path, and there are millions
    except (OSError, ValueError):
        return b"-"
    return b"%d %d " % (status.st_size, status.st_mtime_ns)


def _head(path: Path) -> bytes:
    """The size of a file and how it begins; nothing of one that cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return b""
        with path.open("rb") as file:
            return b"%d " % status.st_size + file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""
