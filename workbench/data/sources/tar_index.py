"""Indexes a tar shard: offset of each image, texts of each sample. Nothing is extracted or unpickled.

:mod:`workbench.data.sources.tar_table` keeps indices on disk.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workbench.data.captions import LeftOut, Texts, read_synthetic, read_texts

BLOCK_BYTES = 512
DIGEST_BYTES = 65536
MAX_TEXT_BYTES = 1 << 20
MAX_DIGITS = 10  # of a class number
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
TEXT_EXTENSIONS = ("txt", "json")
CLASS_EXTENSION = "cls"  # the number of the class, as text
SYNTHETIC_EXTENSION = "syn.json"  # captions that a model has written, as in DataCompDR
# DataCompDR's embeddings by two teachers, and the augmentations for which alone they are right. Views here are crops
# that the run draws itself, so that these embeddings would be those of other images.
STORED_EXTENSIONS = ("npz", "pth.gz", "paug.json")
WHY_STORED = "stored teacher outputs, which are of other views than a run's; --cache-teacher on stores the run's own"
# Exceptions of tarfile on damaged headers.
DAMAGE = (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError)


class IndexedSample(NamedTuple):
    """Offset and size of an image in its shard, in bytes, the sample's texts (``captions.Texts``) and class number.

    ``synthetic`` are the captions of its ``.syn.json``.
    """

    key: str
    offset: int
    size: int
    captions: tuple[str, ...]
    group: str | None
    label: str | None
    is_txt: bool = False
    left_out: tuple[LeftOut, ...] = ()
    number: int | None = None
    synthetic: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a shard in order, and the members that were left out, with reasons.

    ``digest`` is a SHA-256 over the shard's name and size, its samples (keys, offsets, sizes and texts) and its first
    and last 64 KiB. Reading all images would take as long as an epoch: replacing images in the middle by others of the
    same sizes goes unnoticed.
    """

    path: Path
    size: int
    mtime_ns: int
    digest: str
    samples: tuple[IndexedSample, ...]
    ignored: tuple[str, ...]


_Spans = dict[str, tuple[int, int]]  # "image", "txt", "json", "cls" and "syn.json" of a sample -> offset and size


def index_shard(path: Path) -> ShardIndex:
    """Reads headers and texts of a tar. A sample's key is its path up to the first dot of the base name.

    Raises:
        ValueError: not a plain tar, truncated (in a member, in a header or between members), damaged, or two images
            or two texts of one kind with the same key.
    """
    ignored: list[str] = []
    stored: list[str] = []
    members: dict[str, _Spans] = {}
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        for member in _plain_files(file, path, status.st_size, ignored):
            _add(members, member, path, stored)
        samples = tuple(_samples(file, members, ignored))
        digest = _digest(file, path.name, status.st_size, samples)
    return ShardIndex(path, status.st_size, status.st_mtime_ns, digest, samples, (*ignored, *stored))


def _plain_files(file: BinaryIO, path: Path, size: int, ignored: list[str]) -> Iterator[tarfile.TarInfo]:
    """Yields regular files with safe names; adds all other members except folders to ``ignored``."""
    end = 0
    try:
        # backslashreplace: names that are not UTF-8 stay printable, hashable and distinct.
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="backslashreplace") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it keeps every header, which takes much memory
                # A corrupted size field would otherwise make later members overlap, and images read as others' bytes.
                if member.size < 0 or member.offset_data < end:
                    raise tarfile.ReadError("overlapping members")
                # A sparse member's size is that of the unpacked file, not of its data in the archive.
                end = member.offset_data + (0 if member.issparse() else member.size)
                if reason := _refusal(member):
                    ignored.append(f"{member.name!r} ({reason})")
                elif member.isreg():
                    yield member
            end = archive.offset
    except DAMAGE as error:
        raise ValueError(
            f"shard '{path}' is cut short, damaged or not a plain tar ({error}): "
            "unpack it if it is compressed, else copy or make it again"
        ) from error
    _check_end(file, path, end, size)


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Why a member is left out, or None. Such a member is harmless, since nothing is extracted."""
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "a name outside the archive"
    if member.issparse():
        return "a sparse file"
    if not member.isreg() and not member.isdir():
        return "a link or a device"
    return None


def _check_end(file: BinaryIO, path: Path, end: int, size: int) -> None:
    """Checks that the archive ends properly; ``tarfile`` stops silently at anything that is not a header."""
    file.seek(end)
    if file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
        raise ValueError(
            f"shard '{path}' is cut short or damaged at byte {end} of {size} (no end-of-archive mark): "
            "copy or make it again"
        )
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            raise ValueError(
                f"shard '{path}' continues after its end-of-archive mark at byte {end}: "
                "join tars with tar --concatenate, not with cat"
            )


def _add(members: dict[str, _Spans], member: tarfile.TarInfo, path: Path, stored: list[str]) -> None:
    """Adds a member to the sample of its key, if it is an image or a text; to ``stored`` if it is teacher outputs."""
    folder, slash, name = member.name.removeprefix("./").rpartition("/")
    stem, _, extension = name.partition(".")
    extension = extension.lower()
    if stem and extension in STORED_EXTENSIONS:
        stored.append(f"{member.name!r} ({WHY_STORED})")
    if not stem or extension not in (*IMAGE_EXTENSIONS, *TEXT_EXTENSIONS, CLASS_EXTENSION, SYNTHETIC_EXTENSION):
        return
    slot = "image" if extension in IMAGE_EXTENSIONS else extension
    key = folder + slash + stem
    parts = members.setdefault(key, {})
    if slot in parts:
        raise ValueError(f"shard '{path}' holds a second {slot} for {key!r}: give each sample its own key")
    parts[slot] = member.offset_data, member.size


def _samples(file: BinaryIO, members: dict[str, _Spans], ignored: list[str]) -> Iterator[IndexedSample]:
    for key, parts in members.items():
        if "image" in parts:
            offset, size = parts["image"]
            number, synthetic = _class_number(file, parts), _synthetic(file, parts, key, ignored)
            yield IndexedSample(key, offset, size, *_read_texts(file, parts), number, synthetic)
        else:
            ignored.append(f"{key!r} (no image)")


def _read_texts(file: BinaryIO, parts: _Spans) -> Texts:
    read: dict[str, bytes] = {}
    for slot in TEXT_EXTENSIONS:
        offset, size = parts.get(slot, (0, 0))
        if size > MAX_TEXT_BYTES:
            message = f"its .{slot} has {size} bytes, and at most {MAX_TEXT_BYTES} are read"
            return Texts((), left_out=(("too long", message),))
        if slot in parts:
            read[slot] = os.pread(file.fileno(), size, offset)
    return read_texts(read.get("txt"), read.get("json"))


def _synthetic(file: BinaryIO, parts: _Spans, key: str, ignored: list[str]) -> tuple[str, ...]:
    """The usable captions of the .syn.json; one that cannot be read, or has none, is added to ``ignored``."""
    offset, size = parts.get(SYNTHETIC_EXTENSION, (0, 0))
    if SYNTHETIC_EXTENSION not in parts:
        return ()
    captions = read_synthetic(os.pread(file.fileno(), size, offset)) if size <= MAX_TEXT_BYTES else ()
    if not captions:
        ignored.append(f"{key + '.' + SYNTHETIC_EXTENSION!r} (no captions in it)")
    return captions


def _class_number(file: BinaryIO, parts: _Spans) -> int | None:
    """The content of the .cls; None without one, or if it is no number."""
    offset, size = parts.get(CLASS_EXTENSION, (0, 0))
    text = os.pread(file.fileno(), min(size, BLOCK_BYTES), offset).strip()
    return int(text) if text.isdigit() and len(text) < MAX_DIGITS else None


def _digest(file: BinaryIO, name: str, size: int, samples: tuple[IndexedSample, ...]) -> str:
    # Only the first six fields, without is_txt, left_out, number and synthetic: more would change the fingerprints that
    # existing runs have recorded.
    digest = hashlib.sha256(json.dumps([name, size, [sample[:6] for sample in samples]]).encode())
    digest.update(os.pread(file.fileno(), DIGEST_BYTES, 0))
    digest.update(os.pread(file.fileno(), DIGEST_BYTES, max(0, size - DIGEST_BYTES)))
    return digest.hexdigest()
