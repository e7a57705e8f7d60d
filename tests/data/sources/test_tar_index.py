"""The index of a tar, and the refusal of damaged and hostile tars."""

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.data.sources.tar_index import MAX_TEXT_BYTES, index_shard

reuses_a_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
BLOCK = 512


def test_offsets_point_to_the_images(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> None:
    members = pairs(5)
    path = write_tar(members)
    index = index_shard(path)
    content = path.read_bytes()
    assert [sample.key for sample in index.samples] == [f"k{number:03d}" for number in range(5)]
    for number, sample in enumerate(index.samples):
        assert content[sample.offset : sample.offset + sample.size] == members[f"{sample.key}.jpg"]
        assert sample.captions == (f"caption {number}",)
    assert index.ignored == ()


def test_a_key_is_the_path_up_to_the_first_dot_of_the_name(write_tar: Callable[..., Path]) -> None:
    members = {
        "./a.v2/one.JPG": b"1",
        "./a.v2/one.json": b'{"captions": ["x", "y"], "group": "g", "class": "c"}',
        "two.png": b"2",
        "two.seg.png": b"left out: the extension is seg.png",
        "two.txt": b"x",
        "two.cls": b"3",
        ".hidden.jpg": b"4",
        "._two.jpg": b"5",
        "readme": b"6",
    }
    index = index_shard(write_tar(members))
    assert [(sample.key, sample.size, *sample[3:6]) for sample in index.samples] == [
        ("a.v2/one", 1, ("x", "y"), "g", "c"),
        ("two", 1, ("x",), None, None),
    ]


def test_class_numbers_are_read(write_tar: Callable[..., Path]) -> None:
    texts = [b"3", b" 12\n", b"cat", b"-1", b"", b"9" * 5000]
    members = {f"{index}.jpg": b"x" for index in range(6)} | {f"{index}.cls": text for index, text in enumerate(texts)}
    assert [sample.number for sample in index_shard(write_tar(members)).samples] == [3, 12, None, None, None, None]


def test_members_of_a_sample_need_not_be_adjacent(write_tar: Callable[..., Path]) -> None:
    index = index_shard(write_tar({"b.jpg": b"1", "a.txt": b"x", "a.jpg": b"2", "b.txt": b"y"}))
    assert [(sample.key, sample.captions) for sample in index.samples] == [("b", ("y",)), ("a", ("x",))]


@reuses_a_file
@given(data=st.data())
def test_a_truncated_tar_is_refused(
    data: st.DataObject,
    tmp_path: Path,
    tar_bytes: Callable[..., bytes],
) -> None:
    whole = tar_bytes({"a.jpg": b"x" * 700, "a.txt": b"y", "b.jpg": b"", "b.txt": b"z" * 512})
    end = BLOCK * (1 + 2 + 1 + 1 + 1 + 1 + 1)
    boundaries = st.integers(0, end // BLOCK).map(lambda block: block * BLOCK)
    cut = data.draw(st.one_of(st.integers(0, end + BLOCK - 1), boundaries))
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=r"^shard '.*cut\.tar' is cut short[^\n]*$"):
        index_shard(path)
    path.write_bytes(whole[: end + BLOCK])
    assert len(index_shard(path).samples) == 2


@reuses_a_file
@given(place=st.integers(0, 6000), noise=st.binary(min_size=1, max_size=600))
def test_damage_is_refused_or_harmless(
    place: int, noise: bytes, tmp_path: Path, tar_bytes: Callable[..., bytes], pairs: Callable[..., dict[str, bytes]]
) -> None:
    content = bytearray(tar_bytes(pairs(2)))
    content[place : place + len(noise)] = noise
    path = tmp_path / "damaged.tar"
    path.write_bytes(content)
    try:
        samples, complaint = index_shard(path).samples, ""
    except ValueError as error:
        samples, complaint = (), str(error)
    assert all(0 <= sample.offset <= sample.offset + sample.size <= len(content) for sample in samples)
    assert not complaint or ("damaged.tar" in complaint and "\n" not in complaint)


def test_a_negative_size_does_not_hang(tmp_path: Path, tar_bytes: Callable[..., bytes]) -> None:
    """CVE-2025-8194: tarfile walks backwards through such a header, for ever."""
    content = bytearray(tar_bytes({"a.jpg": b"x", "b.jpg": b"y"}))
    header = content[2 * BLOCK : 3 * BLOCK]
    header[124:136] = b"\xff" + (-1024).to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[2 * BLOCK : 3 * BLOCK] = header
    path = tmp_path / "backwards.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        index_shard(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 100, bytes(range(256)) * 40])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"^shard '.*no\.tar' [^\n]*$"):
        index_shard(tmp_path / "no.tar")


def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path, tar_bytes: Callable[..., bytes]) -> None:
    (tmp_path / "zipped.tar").write_bytes(gzip.compress(tar_bytes({"a.jpg": b"x"})))
    with pytest.raises(ValueError, match="unpack it if it is compressed"):
        index_shard(tmp_path / "zipped.tar")


def test_tars_joined_with_cat_are_refused(tmp_path: Path, tar_bytes: Callable[..., bytes]) -> None:
    (tmp_path / "two.tar").write_bytes(tar_bytes({"a.jpg": b"x"}) + tar_bytes({"b.jpg": b"y"}))
    with pytest.raises(ValueError, match="tar --concatenate"):
        index_shard(tmp_path / "two.tar")


def test_an_empty_archive_has_no_samples(write_tar: Callable[..., Path]) -> None:
    assert index_shard(write_tar({})).samples == ()


class Explosive:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("unpickled",)


def test_hostile_members_are_left_out_by_name_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = tmp_path / "inside" / "hostile.tar"
    shard.parent.mkdir()
    monkeypatch.chdir(shard.parent)
    links = {
        "link.jpg": tarfile.SYMTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "null.jpg": tarfile.CHRTYPE,
        "pipe.txt": tarfile.FIFOTYPE,
    }
    with tarfile.open(shard, "w") as archive:
        for name in ("../outside.jpg", "/tmp/absolute.jpg", "deep/../../outside.txt", "good.jpg", "good.txt"):
            header = tarfile.TarInfo(name)
            header.size = 4
            archive.addfile(header, io.BytesIO(b"good"))
        for name, kind in links.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        code = pickle.dumps(Explosive())
        header = tarfile.TarInfo("good.pyd")
        header.size = len(code)
        archive.addfile(header, io.BytesIO(code))
    before = sorted(tmp_path.rglob("*"))
    index = index_shard(shard)
    assert sorted(tmp_path.rglob("*")) == before
    assert [sample.key for sample in index.samples] == ["good"]
    assert len(index.ignored) == 7
    for name in ("../outside.jpg", "/tmp/absolute.jpg", *links):
        assert any(repr(name) in line for line in index.ignored), name


def test_control_characters_and_invalid_bytes_in_names_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("caf\xe9.jpg", "caf\xe8.jpg", "\x1b[31m\n.txt"):
            archive.addfile(tarfile.TarInfo(name))
    index = index_shard(path)
    assert [sample.key for sample in index.samples] == ["caf\\xe9", "caf\\xe8"]
    assert index.ignored == (r"'\x1b[31m\n' (no image)",)


@pytest.mark.parametrize("second", ["a.png", "a.jpg"])
def test_two_images_of_one_key_are_refused(tmp_path: Path, second: str) -> None:
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
        archive.addfile(tarfile.TarInfo(second))
    with pytest.raises(ValueError, match="second image for 'a'"):
        index_shard(path)


def test_unusable_texts_leave_their_sample_without_a_caption(write_tar: Callable[..., Path]) -> None:
    long = {"b.jpg": b"x", "b.txt": b"y" * (MAX_TEXT_BYTES + 1)}
    first, second = index_shard(write_tar({"a.jpg": b"x", "a.json": b"{"} | long)).samples
    assert first.captions == second.captions == ()
    assert first.left_out[0][0] == "unusable JSON"
    assert second.left_out[0][0] == "too long"
    assert f"{MAX_TEXT_BYTES + 1} bytes" in second.left_out[0][1]


def test_the_digest_follows_the_content(write_tar: Callable[..., Path], tar_bytes: Callable[..., bytes]) -> None:
    members = {"a.jpg": b"x", "a.txt": b"caption"}
    path = write_tar(members)
    digest = index_shard(path).digest
    # Runs record a hash of it: another one would keep them from resuming.
    assert digest == "becf4506035aeea44fbc6a248bed4380669a1e1b817c6deedeec974057a89c22"
    os.utime(path, ns=(1, 1))
    assert index_shard(path).digest == digest
    assert index_shard(write_tar(members, "elsewhere/00000.tar")).digest == digest
    assert index_shard(write_tar(members, "00001.tar")).digest != digest
    for changed in ({"a.jpg": b"y", "a.txt": b"caption"}, {"a.jpg": b"x", "a.txt": b"Caption"}):
        path.write_bytes(tar_bytes(changed))
        assert index_shard(path).digest != digest
