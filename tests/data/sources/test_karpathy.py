"""Karpathy's split files, intact and damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data.cached.prepare import CachePolicy, cached
from workbench.data.cached.store import STORES
from workbench.data.spec import Role, open_dataset

WriteImages = Callable[..., list[str]]
SPLITS = ("train", "restval", "val", "test", "train")


@pytest.fixture
def document(write_images: WriteImages) -> dict[str, Any]:
    """Five images with two captions each, in the layout of dataset_coco.json."""
    names = [Path(name).name for name in write_images(5, "images/val2014")]
    images = [
        {
            "filepath": "val2014",
            "filename": name,
            "split": split,
            "sentences": [{"raw": f"caption {number}{letter}", "tokens": ["caption"]} for letter in "ab"],
        }
        for number, (name, split) in enumerate(zip(names, SPLITS, strict=True))
    ]
    return {"images": images, "dataset": "coco"}


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., str]:
    """Writes a document and returns its SPEC, with a split if one is named."""

    def write(document: object, split: str = "") -> str:
        path = tmp_path / "dataset_coco.json"
        path.write_text(json.dumps(document))
        return f"karpathy:{path}{split}@{tmp_path / 'images'}"

    return write


@pytest.mark.parametrize(
    ("role", "split", "numbers"),
    [
        ("train", "", [0, 1, 4]),
        ("validation", "", [2]),
        ("test", "", [3]),
        ("train", "/test", [3]),
        ("test", "/val", [2]),
        ("train", "/restval", [1]),
        ("teacher", "", [0, 1, 4]),
        ("validation", "/train", [0, 1, 4]),
    ],
)
def test_the_split_is_the_role_or_the_given_one(
    document: dict[str, Any], spec: Callable[..., str], role: Role, split: str, numbers: list[int]
) -> None:
    dataset = open_dataset(spec(document, split), role)
    texts = [dataset.text(index) for index in range(len(dataset))]
    assert [text.key for text in texts] == [f"val2014/k{number:03d}.jpg" for number in numbers]
    assert [text.captions for text in texts] == [(f"caption {number}a", f"caption {number}b") for number in numbers]
    assert dataset[0].image.size == (40, 32)


def test_flickr30k_has_no_filepath(document: dict[str, Any], spec: Callable[..., str], tmp_path: Path) -> None:
    for image in document["images"]:
        del image["filepath"]
    dataset = open_dataset(f"{spec(document)}/val2014", "train", 1)
    assert (len(dataset), dataset.text(0).key) == (1, "k000.jpg")
    assert tmp_path


def test_splits_of_one_file_have_separate_stores(document: dict[str, Any], spec: Callable[..., str]) -> None:
    for role in ("train", "validation"):
        cached(open_dataset(spec(document), role), CachePolicy("pixels"))  # type: ignore[arg-type]
    assert sorted(one.manifest.num_pairs for one in STORES.entries()) == [1, 3]


def test_unusable_captions_are_left_out_and_counted(document: dict[str, Any], spec: Callable[..., str]) -> None:
    first, second = document["images"][:2]
    first["sentences"] = [{"raw": "None"}, {"raw": None}, {"raw": " "}, {"tokens": []}]
    second["sentences"] = []
    with pytest.warns(UserWarning, match=r"left out captions of '.*': 4 of 7 \(2 null, "):
        dataset = open_dataset(spec(document), "train")
    assert dataset.text(0).captions == ("None",)
    assert len(dataset) == 2
    assert dataset.reading.left_out == {"null": 2, "blank": 1, "missing": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("images"), "has no list 'images': give a file of Karpathy's splits"),
        (lambda document: document["images"][0].pop("split"), "an image without 'split': give a file of Karpathy"),
        (lambda document: document["images"][0].pop("filename"), "an image without 'filename' and 'sentences'"),
        (lambda document: document["images"].clear(), "has no image with a caption in the split 'train'.* are none"),
        (lambda document: document["images"][0].update(filename="no.jpg"), ""),
    ],
)
def test_a_damaged_file_is_one_line(
    document: dict[str, Any], spec: Callable[..., str], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(document)
    if not message:  # an image that is missing is counted when it is read
        assert len(open_dataset(spec(document), "train")) == 3
        return
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(spec(document), "train")


def test_an_unknown_split_offers_only_splits_of_a_file(document: dict[str, Any], spec: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"unknown split .*: choose one of: restval, test, train, val, validation$"):
        open_dataset(spec(document, "/x"), "train")
    with pytest.raises(ValueError, match="unknown split"):
        open_dataset(spec(document, "/teacher"), "train")


def test_a_wrong_spec_shows_the_syntax(document: dict[str, Any], spec: Callable[..., str]) -> None:
    right = spec(document)
    file = right.partition(":")[2].partition("@")[0]
    for wrong, message in (
        (f"karpathy:{file}", "write it as karpathy:dataset_flickr30k.json@images"),
        (spec(document, "/tset"), "did you mean 'test'"),
        (file, f"write coco:{file}@DIR .* karpathy:{file}@DIR"),
        (right.replace("karpathy:", "coco:"), "has no list 'annotations': .* karpathy:FILE.json@DIR"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset(wrong, "train")
