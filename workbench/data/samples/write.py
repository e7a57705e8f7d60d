"""Pictures to webdataset shards: deterministic bytes, and a folder that exists only once it is finished."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from workbench.config.nearest import unknown
from workbench.data.samples.picture import Picture

CHECKSUMS = "checksums.txt"
INDEX = "index.json"

# Suffix of the files, and how Pillow encodes them: colour at full resolution, losses below the noise.
_ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpg", {"format": "JPEG", "quality": 92, "subsampling": "4:4:4", "optimize": True}),
    "webp": ("webp", {"format": "WEBP", "quality": 92, "method": 4}),
}

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)  # modified at 0, by user 0: nothing of this machine


def write_shards(pictures: Iterable[Picture], folder: Path, *, image_format: str, pairs_per_shard: int) -> Path:
    """Writes `folder` with 00000.tar, 00001.tar... of key.jpg (or .webp) and key.json, and returns it.

    Beside the shards lie checksums.txt, as sha256sum reads it, and index.json, `{"num_pairs": N}`. Everything is
    written next to the folder and renamed at the end, so that a folder is whole or absent; of two processes that
    write the same pictures at once, the second keeps what the first finished. ValueError when there are no
    pictures or the folder holds other ones.
    """
    if image_format not in _ENCODINGS:
        raise unknown("image format", image_format, _ENCODINGS)
    unfinished = folder.with_name(f".{folder.name}-{uuid4().hex}")
    unfinished.mkdir(parents=True)
    try:
        _write_into(unfinished, pictures, image_format, pairs_per_shard)
        _move(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def num_pairs_in(folder: Path) -> int:
    """How many pairs a folder made by `write_shards` holds; 0 where there is none."""
    index = folder / INDEX
    return int(json.loads(index.read_text())["num_pairs"]) if index.exists() else 0


def _write_into(folder: Path, pictures: Iterable[Picture], image_format: str, pairs_per_shard: int) -> None:
    remaining = iter(pictures)
    checksums: list[str] = []
    num_pairs = 0
    while shard := list(islice(remaining, pairs_per_shard)):
        content = _shard(shard, image_format)
        name = f"{len(checksums):05d}.tar"
        (folder / name).write_bytes(content)
        checksums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        num_pairs += len(shard)
    if not checksums:
        raise ValueError(f"no pictures to write into {folder.name}: ask for at least one")
    (folder / CHECKSUMS).write_text("".join(checksums))
    (folder / INDEX).write_text(json.dumps({"num_pairs": num_pairs}) + "\n")


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


def _move(finished: Path, folder: Path) -> None:
    try:
        finished.rename(folder)
    except OSError:
        theirs = folder / CHECKSUMS
        if not theirs.exists():
            raise ValueError(f"{folder} is in the way: remove it, or choose another folder") from None
        if theirs.read_text() != (finished / CHECKSUMS).read_text():
            raise ValueError(f"{folder} holds other samples: remove it, or choose another folder") from None
