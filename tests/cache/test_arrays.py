"""Files of cache entries: random reads, and blocks that count only when they are complete and intact."""

import pickle
from pathlib import Path

import pytest

from workbench.cache.arrays import (
    CHECKSUMS,
    DIGESTS,
    ROWS,
    BlockReader,
    Blocks,
    BlockWriter,
    RandomFile,
    allocate,
    read_digests,
)
from workbench.files import DiskFullError

BLOCKS = Blocks(num_items=7, item_bytes=4, items_per_block=3, rows_per_item=2)


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
    assert reader.read([13, 0, 12]) == bytes([6, 6, 0, 0, 6, 6])
    assert reader.damaged() == []
    with BlockWriter(folder, BLOCKS) as writer:
        writer.forget([0, 2])
    assert missing(folder) == [0, 2]


def changed(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


@pytest.fixture
def whole(folder: Path) -> Path:
    """All three blocks are written."""
    with BlockWriter(folder, BLOCKS) as writer:
        writer.write(1, content_of(1))
    return folder


def test_a_damaged_row_is_found_at_its_first_read(whole: Path) -> None:
    changed(whole / ROWS, 13, b"x")  # in row 6 of 14, the first of block 1
    reader = BlockReader(whole, BLOCKS)
    assert reader.damaged() == [1]
    assert reader.read([0, 7]) == bytes([0, 0, 3, 3])  # its neighbor is intact, and blocks are not read as a whole
    for _ in range(2):
        with pytest.raises(ValueError, match=r"block 1 of .* is damaged"):
            reader.read([0, 6])


def test_two_rows_that_were_exchanged_are_found(whole: Path) -> None:
    """Each has the content and the checksum of the other."""
    for name, size in ((ROWS, 2), (CHECKSUMS, 8)):
        content = (whole / name).read_bytes()
        changed(whole / name, 2 * size, content[6 * size : 7 * size])
        changed(whole / name, 6 * size, content[2 * size : 3 * size])
    reader = BlockReader(whole, BLOCKS)
    assert reader.damaged() == [0, 1]
    for row in (2, 6):
        with pytest.raises(ValueError, match="is damaged"):
            reader.read([row])


def test_a_damaged_checksum_is_mended_with_its_block(whole: Path) -> None:
    changed(whole / CHECKSUMS, 8 * 5 + 3, b"?")
    reader = BlockReader(whole, BLOCKS)
    with pytest.raises(ValueError, match=r"block 0 of .* is damaged"):
        reader.read([5])
    assert reader.damaged() == [0]
    with BlockWriter(whole, BLOCKS) as writer:
        writer.write(0, content_of(0))
    assert BlockReader(whole, BLOCKS).damaged() == []
    assert BlockReader(whole, BLOCKS).read([5]) == bytes([2, 2])


@pytest.mark.parametrize("later", [[], [1]])
def test_rows_without_checksums_are_verified_by_their_blocks(whole: Path, later: list[int]) -> None:
    """As earlier versions wrote them; ``later`` are blocks that this one has written again."""
    (whole / CHECKSUMS).unlink()
    if later:
        with BlockWriter(whole, BLOCKS) as writer:
            for number in later:
                writer.write(number, content_of(number))
    reader = BlockReader(whole, BLOCKS)
    assert reader.damaged() == []
    assert reader.read([*range(14)]) == bytes(row // 2 for row in range(14) for _ in range(2))
    changed(whole / ROWS, 1, b"x")  # in row 0
    reader = BlockReader(whole, BLOCKS)
    assert reader.damaged() == [0]
    with pytest.raises(ValueError, match=r"block 0 of .* is damaged"):
        reader.read([1])
    assert reader.read([6, 13]) == bytes([3, 3, 6, 6])


def test_opening_reads_no_row(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []
    honest = RandomFile.read

    def noting(self: RandomFile, start: int, end: int) -> bytes:
        asked.append((self._path.name, start, end))
        return honest(self, start, end)

    monkeypatch.setattr(RandomFile, "read", noting)
    reader = BlockReader(whole, BLOCKS)
    assert asked == []
    for _ in range(2):
        reader.read([9])
    assert asked == [(ROWS, 18, 20), (CHECKSUMS, 72, 80), (ROWS, 18, 20)]


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
