"""Image files: random reads, missing files, and the fingerprint."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.dataset import ZeroShotTask, spread
from workbench.data.images import decode_image
from workbench.data.sources.files import ImageFiles, ImageList, Strings, base_folder
from workbench.data.unusable import ImageError

WriteImages = Callable[..., list[str]]


def listed(names: list[str], captions: list[str] | None = None, limit: int = 0) -> ImageList:
    images = ImageList(limit)
    for name, caption in zip(names, captions or [f"caption {number}" for number in range(len(names))], strict=True):
        images.add(name, caption)
    return images


@pytest.fixture
def files(write_images: WriteImages, tmp_path: Path) -> Callable[..., ImageFiles]:
    names = write_images(4)
    return lambda captions=None: ImageFiles(listed(names, captions), tmp_path, "a list")


def test_captions_of_an_image_are_collected_from_all_rows(write_images: WriteImages, tmp_path: Path) -> None:
    one, two, three = write_images(3)
    images = listed([two, one, two, three, two], list("abcde"))
    dataset = ImageFiles(images, tmp_path, "a list")
    assert [dataset.text(index).captions for index in range(3)] == [("a", "c", "e"), ("b",), ("d",)]
    assert [dataset.text(index).key for index in range(3)] == [two, one, three]
    sample = dataset[0]
    assert (sample.captions, sample.group, sample.label) == (("a", "c", "e"), two, None)
    np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(decode_image((tmp_path / two).read_bytes())))
    for beyond in (3, -1):
        with pytest.raises(IndexError):
            dataset[beyond]


def test_a_limit_counts_images(write_images: WriteImages) -> None:
    one, two, three = write_images(3)
    images = listed([one, two, three, one], list("abcd"), limit=2)
    assert (len(images), len(images.captions)) == (2, 3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "missing file"),
        (lambda path: (path.unlink(), path.mkdir()), "unreadable file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "unreadable file"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cut short or damaged"),
    ],
)
def test_an_unusable_image_is_named_with_the_reason(
    files: Callable[..., ImageFiles], tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    dataset = files()
    damage(tmp_path / "images" / "k002.jpg")
    dataset[1]
    with pytest.raises(ImageError, match=r"^a list, image 'images/k002.jpg': [^\n]+$") as caught:
        dataset[2]
    assert caught.value.reason == reason
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_odd_characters_in_a_name_stay_on_one_line(tmp_path: Path) -> None:
    dataset = ImageFiles(listed(["a\nb\x1b[31m\0.jpg", "c\udcff.jpg"]), tmp_path, "a list")
    for index, reason in enumerate(("unreadable file", "missing file")):
        with pytest.raises(ImageError, match=r"^[ -~]+$") as caught:
            dataset[index]
        assert caught.value.reason == reason


def test_a_name_that_is_not_utf8_is_found(tmp_path: Path, image: Callable[..., bytes]) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        (tmp_path / name).write_bytes(image(0))
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    sample = ImageFiles(listed([name]), tmp_path, "a list")[0]
    assert sample.key == "caf\\xe9.jpg"


def test_the_fingerprint_follows_the_content(
    files: Callable[..., ImageFiles], write_images: WriteImages, tmp_path: Path
) -> None:
    fingerprint = files().fingerprint
    assert len(bytes.fromhex(fingerprint)) == 32
    assert files().fingerprint == fingerprint
    tmp_path.joinpath("moved").mkdir()
    tmp_path.joinpath("images").rename(tmp_path / "moved" / "images")
    moved = ImageFiles(listed([f"images/k00{number}.jpg" for number in range(4)]), tmp_path / "moved", "elsewhere")
    assert moved.fingerprint == fingerprint
    names = write_images(4)
    others = [
        ImageFiles(listed(names, ["x", "y", "z", "w"]), tmp_path, "a list").fingerprint,
        ImageFiles(listed(names[:3]), tmp_path, "a list").fingerprint,
        ImageFiles(
            listed(names), tmp_path, "", class_N=[0, 1, 0, 1], task=ZeroShotTask((("a",), ("b",)), ())
        ).fingerprint,
        ImageFiles(
            listed(names), tmp_path, "", class_N=[0, 1, 1, 1], task=ZeroShotTask((("a",), ("b",)), ())
        ).fingerprint,
        ImageFiles(
            listed(names), tmp_path, "", class_N=[0, 1, 0, 1], task=ZeroShotTask((("a",), ("c",)), ())
        ).fingerprint,
    ]
    write_images(1, size=(41, 32))
    others.append(ImageFiles(listed(names), tmp_path, "a list").fingerprint)
    assert len({fingerprint, *others}) == 7


def test_the_base_folder_of_a_list(write_images: WriteImages, tmp_path: Path) -> None:
    names = write_images(2)
    both = (tmp_path / "nowhere", tmp_path)
    assert base_folder(listed([*names, "missing.jpg"]), both, "'x.csv'") == tmp_path
    with pytest.raises(ValueError, match=r"^no image of 'x.csv' exists in '.*' or '.*', first 'a.jpg': write"):
        base_folder(listed(["a.jpg", "b.jpg"]), both, "'x.csv'")


@pytest.mark.parametrize(("total", "count", "places"), [(5, 9, [0, 1, 2, 3, 4]), (100, 3, [0, 50, 99]), (1, 4, [0])])
def test_evenly_spaced_indices(total: int, count: int, places: list[int]) -> None:
    assert spread(total, count) == places


def test_it_is_picklable(files: Callable[..., ImageFiles]) -> None:
    dataset = files()
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.fingerprint, copy.text(2)) == (dataset.fingerprint, dataset.text(2))
    np.testing.assert_array_equal(np.asarray(copy[1].image), np.asarray(dataset[1].image))


@given(st.lists(st.binary(max_size=9)))
def test_strings_round_trip(texts: list[bytes]) -> None:
    strings = Strings()
    for text in texts:
        strings.append(text)
    copy = pickle.loads(pickle.dumps(strings))
    assert [copy[index] for index in range(len(copy))] == texts


@given(st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)))
def test_different_lists_are_joined_differently(one: list[bytes], other: list[bytes]) -> None:
    both = [Strings(), Strings()]
    for strings, texts in zip(both, (one, other), strict=True):
        for text in texts:
            strings.append(text)
    assert len(one) != len(other) or (both[0].joined() == both[1].joined()) == (one == other)
