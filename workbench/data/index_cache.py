"""Shard indices kept on disk, so that a shard is read through once and not at every start."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from workbench.data.tar_index import IndexedSample, ShardIndex, index_shard
from workbench.files import write_atomically
from workbench.resources import cache_dir

FORMAT = 2  # raise it when an index of the same shard would come out otherwise


def cached_index(path: Path) -> ShardIndex:
    """The index of a shard: the kept one if the shard has its size and time still, else a new one, kept.

    A cache that cannot be written is no error: the index is then made at every start.

    Raises:
        ValueError: the shard cannot be read, or not be used; see :func:`~workbench.data.tar_index.index_shard`.
    """
    path = path.absolute()
    entry = cache_dir() / "index" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    try:
        known = _load(entry, path)
        if known is not None:
            return known
        index = index_shard(path)
    except OSError as error:
        raise ValueError(f"shard '{path}' cannot be read ({error.strerror}): check what it is and who may") from error
    with contextlib.suppress(OSError):
        _store(entry, index)
    return index


def _load(entry: Path, path: Path) -> ShardIndex | None:
    """The kept index, or None if there is none that fits; a torn or foreign file counts as none."""
    status = path.stat()
    wanted = _identity(path, status.st_size, status.st_mtime_ns)
    try:
        document = json.loads(entry.read_bytes())
        if document["shard"] != wanted:
            return None
        rows, digest, ignored = document["samples"], document["digest"], document["ignored"]
        samples = tuple(
            IndexedSample(
                key, offset, size, tuple(captions), group, label, is_txt, tuple((why, line) for why, line in left_out)
            )
            for key, offset, size, captions, group, label, is_txt, left_out in rows
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ShardIndex(path, status.st_size, status.st_mtime_ns, digest, samples, tuple(ignored))


def _store(entry: Path, index: ShardIndex) -> None:
    document = {
        "shard": _identity(index.path, index.size, index.mtime_ns),
        "digest": index.digest,
        "ignored": index.ignored,
        "samples": index.samples,
    }
    entry.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(entry, json.dumps(document))


def _identity(path: Path, size: int, mtime_ns: int) -> dict[str, Any]:
    return {"format": FORMAT, "path": os.fsencode(path).hex(), "size": size, "mtime_ns": mtime_ns}
