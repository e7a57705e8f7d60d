"""Files of cache entries: random reads, and blocks that count only when they are complete and intact."""

import pickle
from pathlib import Path

import pytest

from workbench.cache.arrays import DIGESTS, ROWS, BlockReader, Blocks, BlockWriter, RandomFile, allocate, read_digests
from workbench.files import DiskFullError

BLOCKS = Blocks(num_items=7, item_bytes=4, items_per_block=3)


def content_of(number: int) -> bytes:
    return bytes(item for item in BLOCKS[number] for _ in range(BLOCKS.item_bytes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Blocks 0 and 2 of three are written."""
    allocate(tmp_path, BLOCKS, keep=False)
    with BlockWriter(tmp_path, BLOCKS) as writer:
        for number in (2, 0):
            writer.write(number, content_of(number))
    return tmp_path


def missing(folder: Path) -> list[int]:
    return [number for number, digest in enumerate(read_digests(folder, BLOCKS)) if not digest]


def test_a_random_file_reads_any_range_and_is_pickled_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    file = RandomFile(tmp_path / "file")
    for opened in (file, pickle.loads(pickle.dumps(file))):
        assert len(opened) == 100
        assert opened.read(20, 23) == bytes([20, 21, 22])
        assert opened.read(98, 110) == bytes([98, 99])
    with pytest.raises(OSError, match="missing"):
        RandomFile(tmp_path / "missing")


def test_blocks_cover_all_items_once() -> None:
    assert (len(BLOCKS), BLOCKS.size_bytes) == (3, 28)
    assert [list(BLOCKS[number]) for number in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_reader_opens_complete_rows_only(folder: Path) -> None:
    assert missing(folder) == [1]
    with pytest.raises(ValueError, match="blocks are missing"):
        BlockReader(folder, BLOCKS)
    allocate(folder, BLOCKS, keep=True)
    with BlockWriter(folder, BLOCKS) as writer:
        writer.write(1, content_of(1))
    reader = BlockReader(folder, BLOCKS)
    assert reader.read([13, 0, 12], rows_per_item=2) == bytes([6, 6, 0, 0, 6, 6])
    assert reader.damaged() == []
    with BlockWriter(folder, BLOCKS) as writer:
        writer.forget([0, 2])
    assert missing(folder) == [0, 2]


def test_a_damaged_block_is_found_at_its_first_read(folder: Path) -> None:
    with BlockWriter(folder, BLOCKS) as writer:
        writer.write(1, content_of(1))
    with (folder / ROWS).open("r+b") as rows:
        rows.seek(13)
        rows.write(b"x")
    reader = BlockReader(folder, BLOCKS)
    assert reader.damaged() == [1]
    assert reader.read([0], rows_per_item=1) == bytes(4)
    with pytest.raises(ValueError, match=r"block 1 of .* is damaged"):
        reader.read([0, 4], rows_per_item=1)


def test_truncated_files_lose_blocks(folder: Path) -> None:
    digests = (folder / DIGESTS).read_bytes()
    (folder / DIGESTS).write_bytes(digests[:32])
    assert missing(folder) == [1, 2]
    (folder / ROWS).write_bytes(bytes(27))
    assert missing(folder) == [0, 1, 2]


def test_starting_again_forgets_all_blocks(folder: Path) -> None:
    allocate(folder, BLOCKS, keep=False)
    with BlockWriter(folder, BLOCKS):
        assert missing(folder) == [0, 1, 2]


def test_a_full_disk_is_found_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.cache.arrays.free_bytes", lambda _: 27)
    with pytest.raises(DiskFullError, match="needs about 28 bytes"):
        allocate(tmp_path, BLOCKS, keep=False)
