"""Pictures to webdataset shards: deterministic bytes, and a folder that exists only once it is finished."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.data.samples.sample import Picture
from workbench.errors import unknown
from workbench.files import DiskFullError, new_folder
from workbench.limits import free_bytes

CHECKSUMS = "checksums.txt"
INDEX = "index.json"

# Suffix of the files, and how Pillow encodes them: colour at full resolution, losses below the noise.
_ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpg", {"format": "JPEG", "quality": 92, "subsampling": "4:4:4", "optimize": True}),
    "webp": ("webp", {"format": "WEBP", "quality": 92, "method": 4}),
}

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)  # modified at 0, by user 0: nothing of this machine


def write_shards(
    pictures: Iterable[Picture], folder: Path, *, image_format: str, pairs_per_shard: int, num_pairs: int = 0
) -> Path:
    """Writes `folder` with 00000.tar, 00001.tar... of key.jpg (or .webp) and key.json, and returns it.

    Beside the shards lie checksums.txt, as sha256sum reads it, and index.json, `{"num_pairs": N}`. The folder is
    whole or absent; of two processes that write the same pictures at once, the second keeps what the first
    finished. With `num_pairs`, how many there will be, a disk too small for them is refused after the first shard.
    ValueError when there are no pictures or the folder holds other ones; OSError when it cannot be written.
    """
    if image_format not in _ENCODINGS:
        raise unknown("image format", image_format, _ENCODINGS)
    checksums = ""
    try:
        with new_folder(folder) as unfinished:
            checksums = _write_into(unfinished, _shards(pictures, image_format, pairs_per_shard), num_pairs)
    except FileExistsError:
        _check_same(folder, checksums)
    return folder


def num_pairs_in(folder: Path) -> int:
    """How many pairs a folder made by `write_shards` holds; 0 where there is none."""
    index = folder / INDEX
    return int(json.loads(index.read_text())["num_pairs"]) if index.exists() else 0


def fault_of_samples(folder: Path) -> str | None:
    """What keeps a folder from being as `write_shards` left it; None of a whole one. Shards are not read."""
    try:
        names = [line.split()[-1] for line in (folder / CHECKSUMS).read_text().splitlines()]
        json.loads((folder / INDEX).read_bytes())
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, IndexError):
        return f"{CHECKSUMS} or {INDEX} is damaged"
    return next((f"{name} is missing" for name in names if not (folder / name).is_file()), None)


def _shards(pictures: Iterable[Picture], image_format: str, pairs_per_shard: int) -> Iterator[tuple[int, bytes]]:
    """Each shard's number of pairs and content."""
    remaining = iter(pictures)
    while shard := list(islice(remaining, pairs_per_shard)):
        yield len(shard), _shard(shard, image_format)


def _write_into(folder: Path, shards: Iterator[tuple[int, bytes]], num_pairs: int) -> str:
    """Writes shards, checksums and index; returns the checksums."""
    checksums: list[str] = []
    num_written = 0
    for count, content in shards:
        if not checksums:
            _check_room(folder, len(content) * max(1.0, num_pairs / count))
        name = f"{len(checksums):05d}.tar"
        (folder / name).write_bytes(content)
        checksums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        num_written += count
    if not checksums:
        raise ValueError("no pictures to write: ask for at least one")
    (folder / CHECKSUMS).write_text("".join(checksums))
    (folder / INDEX).write_text(json.dumps({"num_pairs": num_written}) + "\n")
    return "".join(checksums)


def _check_room(folder: Path, num_bytes: float) -> None:
    if free_bytes(folder) < num_bytes:
        raise DiskFullError(folder, round(num_bytes))


def _shard(pictures: Iterable[Picture], image_format: str) -> bytes:
    suffix, options = _ENCODINGS[image_format]
    content = bytearray()
    for picture in pictures:
        encoded = io.BytesIO()
        picture.image.save(encoded, **options)
        record = json.dumps(picture.record, ensure_ascii=False, separators=(",", ":"))
        content += _member(f"{picture.key}.{suffix}", encoded.getvalue())
        content += _member(f"{picture.key}.json", record.encode())
    content += bytes(2 * BLOCK)  # the end of the archive
    return bytes(content) + bytes(-len(content) % RECORD)


def _member(name: str, content: bytes) -> bytes:
    """A file as it lies in a tar: header, content, zeros up to a whole block.

    Only name, size and checksum differ from member to member, so that only they are written: a fifth of the time
    that `tarfile` takes for a whole header.
    """
    encoded = name.encode()
    if len(encoded) > 100:
        raise ValueError(f"the key of '{name}' is too long for a tar: use at most 90 characters")
    header = bytearray(_EMPTY_HEADER)
    header[: len(encoded)] = encoded
    header[124:135] = b"%011o" % len(content)
    header[148:156] = b" " * 8  # the checksum counts itself as blanks
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header) + content + bytes(-len(content) % BLOCK)


def _check_same(folder: Path, checksums: str) -> None:
    """Raises ValueError unless the folder holds the samples that were to be written there."""
    theirs = folder / CHECKSUMS
    if not theirs.is_file():
        raise ValueError(f"{folder} is in the way: remove it, or choose another folder")
    if theirs.read_text() != checksums:
        raise ValueError(f"{folder} holds other samples: remove it, or choose another folder")
