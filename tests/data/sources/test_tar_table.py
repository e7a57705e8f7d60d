"""Indices of shards on disk: made once, by one process or several, replaced when stale or damaged."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.data.sources import tar_table
from workbench.data.sources.tar import ShardDataset
from workbench.data.sources.tar_index import index_shard
from workbench.data.sources.tar_table import repeats_keys, shard_table, shard_tables


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shards that were read through."""
    seen: list[Path] = []

    def index_and_note(path: Path) -> object:
        seen.append(path)
        return index_shard(path)

    monkeypatch.setattr(tar_table, "index_shard", index_and_note)
    return seen


def test_a_shard_is_read_through_once(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], reads: list[Path]
) -> None:
    path = write_tar(pairs(3) | {"k000.json": b'{"captions": ["x", "y"], "group": "g", "class": "c"}', "t.txt": b""})
    table = shard_table(path)
    assert table == shard_table(path) == pickle.loads(pickle.dumps(table))
    assert reads == [path]
    index = index_shard(path)
    assert [table[number] for number in range(len(table))] == list(index.samples)
    assert (table.summary.digest, table.summary.num_ignored, table.summary.first_ignored) == (
        index.digest,
        1,
        "'t' (no image)",
    )


def test_a_rewritten_shard_is_read_again(write_tar: Callable[..., Path], reads: list[Path]) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"before"})
    assert shard_table(path)[0].captions == ("before",)
    write_tar({"a.jpg": b"x", "a.txt": b"after!"})
    os.utime(path, ns=(1, 1))  # as large as before; a clock tick may not have passed
    assert shard_table(path)[0].captions == ("after!",)
    assert len(reads) == 2


def test_a_relative_path_is_the_same_shard(
    write_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    monkeypatch.chdir(path.parent)
    assert shard_table(Path("00000.tar")) == shard_table(path)
    assert reads == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", None])
def test_a_damaged_entry_is_replaced(
    write_tar: Callable[..., Path], cache: Path, reads: list[Path], content: bytes | None
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    expected = shard_table(path)
    [entry] = (cache / "index").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] if content is None else content)
    assert shard_table(path) == expected
    assert entry.read_bytes() == whole
    assert len(reads) == 2


def test_an_entry_of_another_shape_is_replaced(write_tar: Callable[..., Path], cache: Path, reads: list[Path]) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    expected = shard_table(path)
    [entry] = (cache / "index").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b'"num_pairs":1', b'"num_pairs":""'))
    assert shard_table(path) == expected
    assert len(reads) == 2


def test_without_a_cache_the_index_is_made_again(
    write_tar: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    monkeypatch.setenv("WORKBENCH_CACHE", str(path))  # a file: no folder can be made in it
    table = pickle.loads(pickle.dumps(shard_table(path)))
    assert (table, table[0].captions) == (shard_table(path), ("caption",))
    assert len(reads) == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["00000.tar"]


def test_an_unreadable_shard_is_one_line(tmp_path: Path, cache: Path) -> None:  # noqa: ARG001 - not the user's cache
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "dangling.tar").symlink_to("nowhere")
    for name in ("folder.tar", "dangling.tar"):
        with pytest.raises(ValueError, match=rf"^shard '.*{name}' cannot be read \([^\n]*$"):
            shard_table(tmp_path / name)


def test_a_failed_write_leaves_the_old_entry_and_no_temporary_file(
    write_tar: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    shard_table(path)
    [entry] = (cache / "index").iterdir()
    before = entry.read_bytes()
    write_tar({"a.jpg": b"x", "a.txt": b"another"})
    os.utime(path, ns=(1, 1))

    def no_rename(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", no_rename)
    assert shard_table(path)[0].captions == ("another",)
    assert [found.read_bytes() for found in (cache / "index").iterdir()] == [before]


def many_shards(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> list[Path]:
    return [write_tar(pairs(2, start=2 * number), f"{number:05d}.tar") for number in range(9)]


def test_many_shards_are_indexed_by_other_processes(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], reads: list[Path]
) -> None:
    paths = many_shards(write_tar, pairs)
    dataset = ShardDataset(paths)
    assert [dataset.text(index).key for index in range(18)] == [f"k{number:03d}" for number in range(18)]
    assert reads == []
    paths[4].write_bytes(paths[4].read_bytes()[:3000])
    unusable = list(shard_tables(paths))[4]
    assert isinstance(unusable, ValueError)
    assert "00004.tar" in str(unusable)
    assert reads == [paths[4]]  # once more here, for the reason


def test_without_a_cache_many_shards_are_indexed_in_memory(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = many_shards(write_tar, pairs)
    fingerprint = ShardDataset(paths).fingerprint
    monkeypatch.setenv("WORKBENCH_CACHE", str(paths[0]))
    assert ShardDataset(paths).fingerprint == fingerprint


def test_two_programs_can_index_at_once(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], cache: Path
) -> None:
    paths = many_shards(write_tar, pairs)
    program = "import sys; from pathlib import Path; from workbench.data.sources.tar import ShardDataset\n"
    program += "print(ShardDataset([Path(text) for text in sys.argv[1:]]).fingerprint)"
    command = [sys.executable, "-c", program, *map(str, paths)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate()[0].strip() for process in both}
    assert found == {ShardDataset(paths).fingerprint}
    assert len(list((cache / "index").iterdir())) == len(paths)


def test_an_indexer_that_dies_is_made_up_for(
    write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert len(ShardDataset(many_shards(write_tar, pairs))) == 18


def test_an_index_that_is_replaced_or_removed_while_open_is_refused(
    write_tar: Callable[..., Path], cache: Path
) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"before"})
    table = shard_table(path)
    write_tar({"a.jpg": b"x", "a.txt": b"another"})
    os.utime(path, ns=(1, 1))
    shard_table(path)
    with pytest.raises(ValueError, match="start again"):
        table[0]
    [entry] = (cache / "index").iterdir()
    entry.unlink()
    with pytest.raises(ValueError, match="can no longer be read"):
        table[0]


def test_an_index_of_the_earlier_format_is_removed(write_tar: Callable[..., Path], cache: Path) -> None:
    path = write_tar({"a.jpg": b"x", "a.txt": b"caption"})
    shard_table(path)
    [entry] = (cache / "index").iterdir()
    entry.rename(entry.with_suffix(".json"))
    shard_table(path)
    assert list((cache / "index").iterdir()) == [entry]


def test_keys_are_compared_if_their_hashes_are_equal(
    write_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shard_table(write_tar({"a.jpg": b"x", "a.txt": b"x", "d.jpg": b"x", "d.txt": b"x"}))
    second = shard_table(write_tar({"b.jpg": b"x", "b.txt": b"x", "c.jpg": b"x", "c.txt": b"x"}, "00001.tar"))
    third = shard_table(write_tar({"b.jpg": b"x", "b.txt": b"x"}, "00002.tar"))
    assert not repeats_keys([first, second])
    assert repeats_keys([first, second, third])
    monkeypatch.setattr(tar_table.ShardTable, "key_hashes", lambda table: np.zeros(len(table), np.uint64))
    assert not repeats_keys([first, second])
    assert repeats_keys([first, second, third])
