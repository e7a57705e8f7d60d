"""Shards with class numbers, in the layout of CLIP_benchmark's zero-shot webdatasets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.sources.clip_benchmark import NAMES_FILE, TEMPLATES_FILE, TYPE_FILE
from workbench.data.spec import open_dataset

WriteTar = Callable[..., Path]
Encode = Callable[[int], bytes]


@pytest.fixture
def folder(write_tar: WriteTar, image: Encode, tmp_path: Path) -> Path:
    """Six images of three classes in two shards, with names and templates in the parent folder, as published."""
    for shard in range(2):
        members = {}
        for number in range(3):
            members |= {f"s{shard}{number}.cls": f"{number}\n".encode(), f"s{shard}{number}.jpg": image(number)}
        write_tar(members, f"data/test/{shard}.tar")
    (tmp_path / "data" / NAMES_FILE).write_text("ibex\ncrane\ncrane\n")
    (tmp_path / "data" / TEMPLATES_FILE).write_text("a bad photo of a {c}.\n a {c}\n\n")
    return tmp_path / "data" / "test"


def test_class_numbers_are_classes_with_the_names_and_templates_of_the_files(folder: Path) -> None:
    pairs = open_evaluation_set(str(folder), "test")
    assert pairs.task is not None
    assert pairs.task.classes == (("ibex",), ("crane",), ("crane",))
    assert pairs.task.templates == ("a bad photo of a {}.", "a {}")
    assert pairs.task.verbatim
    assert pairs.classes_N == ["ibex", "crane", "crane (2)"] * 2
    assert pairs.image_group_N == ["ibex", "crane", "crane"] * 2
    assert pairs.captions == ["a photo of an ibex.", "a photo of a crane.", "a photo of a crane."] * 2
    assert pairs.is_class_folder
    assert pairs.reading.notes == ()


def test_files_may_lie_next_to_the_shards(folder: Path) -> None:
    (folder / NAMES_FILE).write_text("a\nb\nc")
    (folder / TEMPLATES_FILE).write_text("{c}")
    dataset = open_dataset(str(folder / "0.tar"), "test")
    assert dataset.task is not None
    assert dataset.task.classes == (("a",), ("b",), ("c",))
    assert dataset.task.templates == ("{}",)


def test_prepared_images_keep_the_classes(folder: Path) -> None:
    live, prepared = (open_evaluation_set(str(folder), "test", prepare=how) for how in ("off", "pixels"))
    assert prepared.task == live.task
    assert (prepared.classes_N, prepared.captions) == (live.classes_N, live.captions)


def test_the_fingerprint_covers_the_names(folder: Path) -> None:
    before = open_dataset(str(folder), "test").fingerprint
    names = (folder.parent / NAMES_FILE).read_text()
    (folder.parent / NAMES_FILE).write_text(names.replace("ibex", "goat"))
    assert open_dataset(str(folder), "test").fingerprint != before
    (folder.parent / NAMES_FILE).write_text(names)
    assert open_dataset(str(folder), "test").fingerprint == before


def test_shards_with_captions_keep_them(folder: Path, write_tar: WriteTar, image: Encode) -> None:
    write_tar({"a.jpg": image(0), "a.cls": b"0", "a.txt": b"a goat"}, "data/test/0.tar")
    dataset = open_dataset(str(folder / "0.tar"), "test")
    assert dataset.task is None
    assert dataset.text(0).captions == ("a goat",)
    assert dataset.text(0).label is None


def test_a_shard_with_class_numbers_alone_is_left_out_next_to_captions(
    folder: Path, write_tar: WriteTar, pairs: Callable[..., dict[str, bytes]]
) -> None:
    write_tar(pairs(200), "data/test/0.tar")
    with pytest.warns(UserWarning, match=r"left out captions of .*: 3 of 203 \(3 missing.* 1\.tar, 's10'"):
        dataset = open_dataset(str(folder), "test")
    assert dataset.task is None
    assert [dataset.text(index).key for index in (0, 199)] == ["k000", "k199"]
    assert len(dataset) == 200


def test_few_images_without_a_number_are_left_out(folder: Path, write_tar: WriteTar, image: Encode) -> None:
    write_tar({"a.jpg": image(0), "a.cls": b"0", "b.jpg": image(1), "b.cls": b"cat"}, "data/test/0.tar")
    with pytest.warns(UserWarning, match=r"left out captions of .*: 1 of 5 \(1 missing"):
        assert len(open_dataset(str(folder), "test")) == 4


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (NAMES_FILE, None, rf"have class numbers .*{NAMES_FILE}"),
        (NAMES_FILE, "a\n\nc\n", r"line 2 of '.*' is blank"),
        (NAMES_FILE, "a\nb\n", r"'s02': class 2 is not one of the 2 in"),
        (TEMPLATES_FILE, None, "there is no '.*': copy it"),
        (TEMPLATES_FILE, "\n", "must have a prompt a line"),
        (TEMPLATES_FILE, "a photo\n", "must have a prompt a line"),
        (TEMPLATES_FILE, "a {c} and {c}\n", "must have a prompt a line"),
        (TEMPLATES_FILE, "a {c} {}\n", "must have a prompt a line"),
    ],
)
def test_unusable_files_are_one_line(folder: Path, file: str, content: str | None, message: str) -> None:
    path = folder.parent / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(str(folder), "test")


@pytest.mark.parametrize("inner", [True, False])
def test_a_declared_retrieval_set_has_a_caption_a_line(
    write_tar: WriteTar, pairs: Callable[..., dict[str, bytes]], tmp_path: Path, inner: bool
) -> None:
    """As its own reader splits them, also where most images have one caption."""
    tar = write_tar(pairs(9) | {"k004.txt": b"a dog\na hound"}, "wds_flickr/test/0.tar")
    assert open_dataset(str(tar.parent), "test").text(4).captions == ("a dog\na hound",)
    declared = tmp_path / "wds_flickr" / ("test" if inner else ".") / TYPE_FILE
    declared.write_text("retrieval\n")
    dataset = open_dataset(str(tar.parent), "test")
    assert dataset.text(4).captions == ("a dog", "a hound")
    assert dataset.text(3).captions == ("caption 3",)
    assert dataset.reading.lines_are_captions
    declared.write_text("classification\n")
    assert open_dataset(str(tar.parent), "test").text(4).captions == ("a dog\na hound",)
