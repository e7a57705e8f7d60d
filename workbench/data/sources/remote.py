"""Shards on other machines: copied to the cache when they are read, within a limit of disk space.

A folder of the cache stands for a folder of a server, whose URL is in ``origin.json``. In it, a shard has a folder:

- ``NAME.tar``: the copy, which may be deleted to make room and is then copied again when it is read;
- ``NAME.tar.part``: a copy in the making, which the next process continues;
- ``copy.json``: what a copy must be again: its size and SHA-256.

The modification time of a copy is a function of its SHA-256, so that every copy of the same content counts as the same
shard for its index, and for stores and caches that were made of it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from workbench.cache.identity import digest_of
from workbench.data.sources.ranges import expand_ranges
from workbench.files import FULL, DiskFullError, write_atomically, write_failure
from workbench.formatting import size as as_size
from workbench.process import folder_lock, free_bytes
from workbench.resources import cache_dir

SCHEMES = ("https", "http", "s3", "hf")
LIMIT, DEFAULT_GB = "WORKBENCH_REMOTE_GB", 100.0
ORIGIN, KNOWN, PART = "origin.json", "copy.json", ".part"
CHUNK_BYTES = 16_000_000
TRIES, PAUSE_S = 4, 1.0  # of a request; each pause is twice as long as the one before
CONNECT_S, SILENCE_S = 15.0, 60.0
REMEDY = "check the address, the network and your credentials, or copy the shards to this machine"


class Origin(BaseModel):
    """The URL of the shards of a folder: the part before their name, and the query after it."""

    model_config = ConfigDict(frozen=True)

    before: str
    after: str


class Known(BaseModel):
    """What a copy must be; ``version`` is the server's name for the content of a part."""

    model_config = ConfigDict(frozen=True)

    version: str = ""
    size: int | None = None  # in bytes, once it was copied
    sha256: str = ""

    @property
    def mtime_ns(self) -> int:
        """The modification time of every copy."""
        return int(self.sha256[:15], 16)


def check_remote(spec: str) -> list[str]:
    """The URLs of a SPEC such as ``https://HOST/{00000..00099}.tar``; asks no server.

    Raises:
        ValueError: no URL of a .tar file.
    """
    urls = expand_ranges(spec)
    for url in urls:
        parts = urlsplit(url)
        if not (parts.netloc and parts.path.endswith(".tar")):
            raise ValueError(
                f"'{url}' is no URL of a .tar file: remote data are shards, such as https://HOST/{{00000..00099}}.tar"
            )
    return urls


def remote_shards(spec: str) -> list[Path]:
    """Where the copies of the shards of a SPEC are or will be. The first unknown one is copied now.

    Raises:
        ValueError: no URL of a .tar file, or that shard cannot be copied: its server does not answer, for example.
    """
    paths = [_path_of(url) for url in check_remote(spec)]
    # Else a server that does not answer would be asked for every shard.
    if unknown := next((path for path in paths if known_status(path) is None), None):
        ensure_copied(unknown)
    return paths


def is_copy(path: Path) -> bool:
    """Whether a path is that of a remote shard's copy, which may not exist."""
    return len(path.parents) > 2 and path.parents[2] == _home()


def known_status(path: Path) -> tuple[int, int] | None:
    """Size and modification time, in ns, of a file, or of every copy of a shard; None if that is not known yet.

    Raises:
        OSError: a file that is no copy is missing.
    """
    if not is_copy(path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    known = _known(path)
    return None if known.size is None else (known.size, known.mtime_ns)


def ensure_copied(path: Path) -> None:
    """Copies the shard of this path from its server, unless it is there. Of several processes at once, one copies.

    Raises:
        ValueError: in one line: there is no such shard, its server does not answer, it has changed, or no room.
    """
    with suppress(FileNotFoundError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # the least recently read one is deleted first
        return
    url = _url_of(path)
    with _explained(url):
        path.parent.mkdir(exist_ok=True)
        with folder_lock(path.parent, None):
            if not path.exists():
                _copy(path, url)


def _home() -> Path:
    return cache_dir().absolute() / "remote"


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    origin = Origin(before=f"{parts.scheme}://{parts.netloc}{folder}/", after=f"?{parts.query}" if parts.query else "")
    path = _home() / digest_of(origin) / Path(name).stem / name
    file = path.parents[1] / ORIGIN
    if not file.exists():
        with _explained(url):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, origin.model_dump_json())
    return path


def _url_of(path: Path) -> str:
    origin = Origin.model_validate_json((path.parents[1] / ORIGIN).read_bytes())
    return f"{origin.before}{path.name}{origin.after}"


def _known(path: Path) -> Known:
    with suppress(FileNotFoundError):
        return Known.model_validate_json((path.parent / KNOWN).read_bytes())
    return Known()


def _write(path: Path, known: Known) -> None:
    write_atomically(path.parent / KNOWN, known.model_dump_json())


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"there is no shard '{url}': correct its address") from error
    except OSError as error:
        if error.errno in FULL:
            raise ValueError(
                f"shard '{url}' cannot be copied ({write_failure(error)}): make room, name another folder in "
                f"WORKBENCH_CACHE, or lower {LIMIT}"
            ) from None
        raise ValueError(f"shard '{url}' cannot be copied ({_line(error)}): {REMEDY}") from error


def _copy(path: Path, url: str) -> None:
    """Completes the part, verifies it, and puts it in place."""
    known = _known(path)
    read, size, version = _opened(url)
    if known.sha256 and size != known.size:
        raise _changed(path, url)
    part = path.with_name(path.name + PART)
    done = part.stat().st_size if part.exists() else 0
    if version != known.version or done > size:  # what is there of it belongs to an earlier content
        part.unlink(missing_ok=True)
        done, known = 0, known.model_copy(update={"version": version})
        _write(path, known)
    _make_room(size - done)
    digest = _fill(part, read, size)
    if digest != (known.sha256 or digest):
        part.unlink()
        raise _changed(path, url)
    known = known.model_copy(update={"size": size, "sha256": digest})
    _write(path, known)  # before the copy has its name: a kill in between leaves a complete part
    os.utime(part, ns=(time.time_ns(), known.mtime_ns))
    part.replace(path)


def _fill(part: Path, read: "Read", size: int) -> str:
    """Reads what a part lacks, and syncs it to the disk; returns the SHA-256 of all of it."""
    with part.open("a+b") as file:
        while (start := file.tell()) < size:
            end = min(start + CHUNK_BYTES, size)
            content = read(start, end)
            if len(content) == size:  # a server without ranges sends the whole file
                file.truncate(0)
            elif len(content) != end - start:
                raise OSError(f"the server sent {len(content)} bytes instead of {end - start}")
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return file_digest(file, "sha256").hexdigest()


def _changed(path: Path, url: str) -> ValueError:
    """The error for another content than was indexed; the next start takes it as it is then."""
    _write(path, Known())
    return ValueError(f"shard '{url}' has changed since it was copied first: start again")


def _make_room(num_bytes: int) -> None:
    """Deletes the copies that were not read for longest until there is room for so many bytes more.

    Raises:
        DiskFullError: there is none on the disk, or within the limit.
    """
    limit = _limit_bytes()
    found = []
    for path in _home().glob("*/*/*.tar*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_atime_ns, path, status.st_size))
    used = sum(size for _, _, size in found)
    for _, path, size in sorted(found):
        if used + num_bytes <= limit and free_bytes(_home()) >= num_bytes:
            return
        if path.suffix != PART:  # parts are in use
            path.unlink(missing_ok=True)  # a process that has it open can continue to read it
            used -= size
    if used + num_bytes > limit:
        raise OSError(FULL[0], f"{LIMIT} allows {as_size(int(limit))}, which is less than {as_size(num_bytes)} more")
    if free_bytes(_home()) < num_bytes:
        raise DiskFullError(_home(), num_bytes)


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT, "")
    try:
        limit = float(text or DEFAULT_GB)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ValueError(f"{LIMIT}={text} is no number above 0: set it to the gigabytes that copies of shards may take")
    return limit * 1e9


Read = Callable[[int, int], bytes]


def _opened(url: str) -> tuple[Read, int, str]:
    """A function that reads bytes of a remote file, its size, and a name for its content."""
    scheme = urlsplit(url).scheme
    try:
        import fsspec

        # Opened for each shard: a file system of fsspec must not be used after a fork.
        files, name = fsspec.url_to_fs(url, **_options(scheme))
    except ImportError:
        raise ValueError(
            f"{scheme}: needs fsspec and its package for {scheme}, which are not installed: "
            "pip install 'clip-distillation-workbench[remote]'"
        ) from None
    info: dict[str, Any] = _tried(lambda: files.info(name))
    if info.get("size") is None:
        raise OSError("the server does not state its size")
    version = next((str(info[key]) for key in ("ETag", "etag", "Last-Modified", "LastModified") if info.get(key)), "")
    size = int(info["size"])
    return lambda start, end: _tried(lambda: files.cat_file(name, start=start, end=end)), size, f"{size} {version}"


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in ("http", "https"):
        return {}
    import aiohttp

    # By default a dead connection is given up after five minutes, and so is a large shard on a slow line.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    return {"client_kwargs": {"timeout": timeout}}


def _tried(request: Callable[[], Any]) -> Any:
    """The answer to a request, which is repeated if it fails, except for files that do not exist.

    Raises:
        FileNotFoundError: the server knows no such file.
        OSError: no answer.
    """
    pause_s = PAUSE_S
    for attempt in range(TRIES):
        try:
            return request()
        except Exception as error:  # each file system raises errors of its own
            reason = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            # fsspec calls a file missing too if its server cannot be reached.
            if isinstance(reason, FileNotFoundError) or getattr(reason, "status", None) in (404, 410):
                raise FileNotFoundError(_line(reason)) from error
            if attempt == TRIES - 1:
                raise OSError(_line(reason)) from error
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError


def _line(error: BaseException) -> str:
    """An error of a library in one line."""
    return " ".join(str(error).split()) or type(error).__name__
