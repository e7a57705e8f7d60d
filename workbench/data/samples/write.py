"""Drawn samples -> webdataset shards with deterministic bytes, in a folder that appears only when complete."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.cache.entries import require_room
from workbench.errors import unknown
from workbench.files import new_folder


@dataclass(frozen=True)
class DrawnSample:
    """One image of a sample set with its record, as `write_shards` stores them.

    `record` is the JSON next to the image: "captions" (list of str), "group" (the full captions of images with the same
    group are positives of each other), "class" (the zero-shot class, if the set has a task) and further fields of the
    set.
    """

    key: str
    image: Image.Image
    record: dict[str, Any]


CHECKSUMS = "checksums.txt"
INDEX = "index.json"

# File suffix and Pillow options: no chroma subsampling, and compression error below the images' noise.
_ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpg", {"format": "JPEG", "quality": 92, "subsampling": "4:4:4", "optimize": True}),
    "webp": ("webp", {"format": "WEBP", "quality": 92, "method": 4}),
}

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)  # time 0 and user 0: the same bytes on every machine


def write_shards(
    samples: Iterable[DrawnSample], folder: Path, *, image_format: str, pairs_per_shard: int, num_pairs: int = 0
) -> Path:
    """Writes `folder` with 00000.tar, 00001.tar... of key.jpg (or .webp) and key.json, and returns it.

    The folder also holds checksums.txt, as sha256sum reads it, and index.json, `{"num_pairs": N}`. It is written to a
    temporary folder and renamed. Of two processes that write the same samples at once, the second keeps the first's.
    With `num_pairs`, the expected number, a disk that is too small is detected after the first shard.

    Raises:
        ValueError: no samples, or the folder holds other ones.
        OSError: the folder cannot be written.
    """
    if image_format not in _ENCODINGS:
        raise unknown("image format", image_format, _ENCODINGS)
    checksums = ""
    try:
        with new_folder(folder) as unfinished:
            checksums = _write_into(unfinished, iter(samples), image_format, pairs_per_shard, num_pairs)
    except FileExistsError:
        theirs = folder / CHECKSUMS
        if not theirs.is_file():
            raise ValueError(f"{folder} is in the way: remove it, or choose another folder") from None
        if theirs.read_text() != checksums:
            raise ValueError(f"{folder} holds other samples: remove it, or choose another folder") from None
    return folder


def num_pairs_in(folder: Path) -> int:
    """Number of pairs in a folder made by `write_shards`; 0 if there is no such folder."""
    index = folder / INDEX
    return int(json.loads(index.read_text())["num_pairs"]) if index.exists() else 0


def fault_of_samples(folder: Path) -> str | None:
    """Why a folder is not a complete result of `write_shards`, or None. Shards are not read."""
    try:
        names = [line.split()[-1] for line in (folder / CHECKSUMS).read_text().splitlines()]
        json.loads((folder / INDEX).read_bytes())
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, IndexError):
        return f"{CHECKSUMS} or {INDEX} is damaged"
    return next((f"{name} is missing" for name in names if not (folder / name).is_file()), None)


def _write_into(
    folder: Path, samples: Iterator[DrawnSample], image_format: str, pairs_per_shard: int, num_pairs: int
) -> str:
    """Writes shards, checksums and index; returns the text of the checksums."""
    checksums: list[str] = []
    num_written = 0
    while shard := list(islice(samples, pairs_per_shard)):
        content = _shard(shard, image_format)
        if not checksums:
            require_room(folder, round(len(content) * max(1.0, num_pairs / len(shard))))
        name = f"{len(checksums):05d}.tar"
        (folder / name).write_bytes(content)
        checksums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        num_written += len(shard)
    if not checksums:
        raise ValueError("no samples to write: ask for at least one")
    (folder / CHECKSUMS).write_text("".join(checksums))
    (folder / INDEX).write_text(json.dumps({"num_pairs": num_written}) + "\n")
    return "".join(checksums)


def _shard(samples: Iterable[DrawnSample], image_format: str) -> bytes:
    suffix, options = _ENCODINGS[image_format]
    content = bytearray()
    for sample in samples:
        encoded = io.BytesIO()
        sample.image.save(encoded, **options)
        record = json.dumps(sample.record, ensure_ascii=False, separators=(",", ":"))
        content += _member(f"{sample.key}.{suffix}", encoded.getvalue())
        content += _member(f"{sample.key}.json", record.encode())
    content += bytes(2 * BLOCK)  # the end of the archive
    return bytes(content) + bytes(-len(content) % RECORD)


def _member(name: str, content: bytes) -> bytes:
    """A tar member: header, content, and zeros up to a full block.

    Fills in name, size and checksum only, which takes a fifth of the time of `tarfile`.
    """
    encoded = name.encode()
    if len(encoded) > 100:
        raise ValueError(f"the key of '{name}' is too long for a tar: use at most 90 characters")
    header = bytearray(_EMPTY_HEADER)
    header[: len(encoded)] = encoded
    header[124:135] = b"%011o" % len(content)
    header[148:156] = b" " * 8  # tar computes the checksum with blanks in its place
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header) + content + bytes(-len(content) % BLOCK)
