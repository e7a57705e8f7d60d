"""Indices are kept, renewed when their shard changes, and never trusted when torn."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data import index_cache
from workbench.data.index_cache import cached_index
from workbench.data.tar_index import index_shard


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shards that were read through."""
    seen: list[Path] = []

    def index_and_note(path: Path) -> object:
        seen.append(path)
        return index_shard(path)

    monkeypatch.setattr(index_cache, "index_shard", index_and_note)
    return seen


def test_a_shard_is_read_through_once(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], reads: list[Path]
) -> None:
    path = write_tar(pairs(3) | {"k000.json": b'{"captions": ["x", "y"], "group": "g", "class": "c"}', "t.txt": b""})
    assert cached_index(path) == cached_index(path) == index_shard(path)
    assert reads == [path]


def test_a_rewritten_shard_is_read_again(write_tar: Callable[..., Path], reads: list[Path]) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"before"})
    assert cached_index(path).samples[0].captions == ("before",)
    write_tar({"a.jpg": b"x", "a.txt": b"after!"})
    os.utime(path, ns=(1, 1))  # as large as before; a clock tick may not have passed
    assert cached_index(path).samples[0].captions == ("after!",)
    assert len(reads) == 2


def test_a_relative_path_is_the_same_shard(
    write_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    monkeypatch.chdir(path.parent)
    assert cached_index(Path("00000.tar")) == cached_index(path)
    assert reads == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", None])
def test_a_torn_entry_is_replaced(
    write_tar: Callable[..., Path], cache: Path, reads: list[Path], content: bytes | None
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    expected = cached_index(path)
    [entry] = (cache / "index").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert cached_index(path) == expected
    assert entry.read_bytes() == whole
    assert len(reads) == 2


def test_an_entry_of_another_shape_is_replaced(write_tar: Callable[..., Path], cache: Path, reads: list[Path]) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    expected = cached_index(path)
    [entry] = (cache / "index").iterdir()
    entry.write_text(entry.read_text().replace('["caption"]', "null"))
    assert cached_index(path) == expected
    assert len(reads) == 2


def test_without_a_cache_the_index_is_made_anew(
    write_tar: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    monkeypatch.setenv("WORKBENCH_CACHE", str(path))  # a file: no folder can be made in it
    assert cached_index(path) == cached_index(path)
    assert len(reads) == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["00000.tar"]


def test_what_cannot_be_read_is_a_line(tmp_path: Path, cache: Path) -> None:  # noqa: ARG001 - not the user's cache
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "dangling.tar").symlink_to("nowhere")
    for name in ("folder.tar", "dangling.tar"):
        with pytest.raises(ValueError, match=rf"^shard '.*{name}' cannot be read \([^\n]*$"):
            cached_index(tmp_path / name)


def test_a_failed_write_leaves_the_old_entry_and_no_litter(
    write_tar: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    cached_index(path)
    [entry] = (cache / "index").iterdir()
    before = entry.read_bytes()
    write_tar({"a.jpg": b"x", "a.txt": b"another"})
    os.utime(path, ns=(1, 1))

    def no_rename(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", no_rename)
    assert cached_index(path).samples[0].captions == ("another",)
    assert [found.read_bytes() for found in (cache / "index").iterdir()] == [before]
