"""COCO's caption files and Karpathy's splits, intact and damaged."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data.cached.prepare import CachePolicy, cached
from workbench.data.cached.store import STORES
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.spec import Role, open_dataset

WriteImages = Callable[..., list[str]]


@pytest.fixture
def document(write_images: WriteImages) -> dict[str, Any]:
    """Three images; five captions of the first two, listed in another order than the images."""
    names = [Path(name).name for name in write_images(3)]
    return {
        "info": {},
        "images": [{"id": 100 - number, "file_name": name, "width": 40} for number, name in enumerate(names)],
        "annotations": [
            {"id": 7 * number, "image_id": 99 + number % 2, "caption": f"caption {number}"} for number in range(10)
        ],
    }


@pytest.fixture
def spec(tmp_path: Path) -> Callable[[Any], str]:
    """Writes a document, or a text that should be one, and returns its SPEC."""

    def write(document: Any) -> str:
        path = tmp_path / "captions_val.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return f"coco:{path}@{tmp_path / 'images'}/"

    return write


@pytest.mark.filterwarnings("ignore:left out")
def test_every_image_has_its_captions_in_their_order(document: dict[str, Any], spec: Callable[[Any], str]) -> None:
    dataset = open_dataset(spec(document), "train")
    assert [dataset.text(index).key for index in range(len(dataset))] == ["k000.jpg", "k001.jpg"]
    assert dataset.text(0).captions == tuple(f"caption {number}" for number in (1, 3, 5, 7, 9))
    assert dataset.text(1).captions == tuple(f"caption {number}" for number in (0, 2, 4, 6, 8))
    assert dataset[1].image.size == (40, 32)
    assert len(open_dataset(spec(document), "train", 1)) == 1


@pytest.mark.filterwarnings("ignore:left out")
def test_all_captions_are_used_at_evaluation(document: dict[str, Any], spec: Callable[[Any], str]) -> None:
    evaluation = open_evaluation_set(spec(document), "validation")
    assert evaluation.caption_image_index_M.tolist() == [0] * 5 + [1] * 5
    assert evaluation.caption_group_M == ["k000.jpg"] * 5 + ["k001.jpg"] * 5


def test_images_and_captions_without_partner_are_reported(document: dict[str, Any], spec: Callable[[Any], str]) -> None:
    document["annotations"].append({"image_id": 5, "caption": "of an image that is not listed"})
    document["annotations"].append({"image_id": 98, "caption": " \n"})
    with pytest.warns(UserWarning, match="left out 1 images without a caption and 1 unlisted images' captions of '"):
        assert len(open_dataset(spec(document), "train")) == 2


def test_unusable_captions_are_left_out_and_counted(document: dict[str, Any], spec: Callable[[Any], str]) -> None:
    for annotation, caption in zip(document["annotations"][:5], [None, 3, " ", "None", "null"], strict=True):
        annotation["caption"] = caption
    del document["annotations"][5]["caption"]
    with pytest.warns(
        UserWarning, match=r"left out captions of '.*': 4 of 10 \(1 null, 1 not text, 1 blank, 1 missing;"
    ):
        dataset = open_dataset(spec(document), "train")
    assert dataset.text(0).captions == ("None", "caption 7", "caption 9")
    assert dataset.text(1).captions == ("null", "caption 6", "caption 8")
    assert dataset.reading.left_out == {"null": 1, "not text": 1, "blank": 1, "missing": 1}


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize(
    "caption", ["x" * 10_000, "a\0b", "\x1b[31mred", "[/b]", "half \ud83d here", "\u202eabc", "caf\u00e9 " * 99]
)
def test_a_caption_may_be_anything(document: dict[str, Any], spec: Callable[[Any], str], caption: str) -> None:
    document["annotations"] = [{"image_id": 100, "caption": caption}]
    [kept] = open_dataset(spec(document), "train").text(0).captions
    assert kept == caption.replace("\ud83d", "?").strip()


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def damage(document: dict[str, Any]) -> None:
        for entry in (document, *document["images"], *document["annotations"]):
            for key in keys:
                entry.pop(key, None)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("images"), "has no list 'images'"),
        (without("annotations"), "has no list 'annotations'"),
        (
            without("caption"),
            r"too many captions .* 10 of 10 .*an annotation without 'caption' \(it has 'id', 'image_id'\)",
        ),
        (without("image_id"), "an annotation without 'image_id'"),
        (without("file_name"), "an image without 'file_name'"),
        (lambda document: document["images"].append(7), r"an image without 'id' \(it is not an object\)"),
        (lambda document: document["images"].append(document["images"][0]), "lists the image 'k000.jpg' twice"),
        (lambda document: document["annotations"].clear(), "has no image with a caption"),
        (lambda document: document.update(images={}), "has no list 'images'"),
        (
            lambda document: [image.update(file_name=f"x{image['id']}") for image in document["images"]],
            "no image of '.*' exists in '.*images', first 'x100'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:left out")
def test_a_damaged_file_is_one_line(
    document: dict[str, Any], spec: Callable[[Any], str], damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    damage(document)
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(spec(document), "train")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0\0\0", "\ufeff{}"])
def test_another_kind_of_file_is_one_line(document: dict[str, Any], spec: Callable[[Any], str], text: str) -> None:
    del document
    with pytest.raises(ValueError, match=r"^'[^\n]*captions_val.json' (is not a complete JSON|has no list)[^\n]*$"):
        open_dataset(spec(text), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.partition("@")[0], "write it as coco:captions.json@images"),
        (lambda spec: spec.partition("@")[0] + "@", "write it as coco:captions.json@images"),
        (lambda spec: spec.replace("_val", "_vall"), "did you mean '.*captions_val.json'"),
        (lambda spec: spec.replace("/images", "/image"), "did you mean '.*images'"),
        (lambda spec: re.sub("/images/$", "/images/k000.jpg", spec), "is not a folder"),
    ],
)
def test_a_wrong_spec_is_one_line(
    document: dict[str, Any], spec: Callable[[Any], str], change: Callable[[str], str], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(change(spec(document)), "train")


SPLITS = ("train", "restval", "val", "test", "train")


@pytest.fixture
def split_document(write_images: WriteImages) -> dict[str, Any]:
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
def split_spec(tmp_path: Path) -> Callable[..., str]:
    """Writes a split_document and returns its SPEC, with a split if one is named."""

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
    split_document: dict[str, Any], split_spec: Callable[..., str], role: Role, split: str, numbers: list[int]
) -> None:
    dataset = open_dataset(split_spec(split_document, split), role)
    texts = [dataset.text(index) for index in range(len(dataset))]
    assert [text.key for text in texts] == [f"val2014/k{number:03d}.jpg" for number in numbers]
    assert [text.captions for text in texts] == [(f"caption {number}a", f"caption {number}b") for number in numbers]
    assert dataset[0].image.size == (40, 32)


def test_flickr30k_has_no_filepath(
    split_document: dict[str, Any], split_spec: Callable[..., str], tmp_path: Path
) -> None:
    for image in split_document["images"]:
        del image["filepath"]
    dataset = open_dataset(f"{split_spec(split_document)}/val2014", "train", 1)
    assert (len(dataset), dataset.text(0).key) == (1, "k000.jpg")
    assert tmp_path


def test_splits_of_one_file_have_separate_stores(
    split_document: dict[str, Any], split_spec: Callable[..., str]
) -> None:
    for role in ("train", "validation"):
        cached(open_dataset(split_spec(split_document), role), CachePolicy("pixels"))  # type: ignore[arg-type]
    assert sorted(one.manifest.num_pairs for one in STORES.entries()) == [1, 3]


def test_unusable_sentences_are_left_out_and_counted(
    split_document: dict[str, Any], split_spec: Callable[..., str]
) -> None:
    first, second = split_document["images"][:2]
    first["sentences"] = [{"raw": "None"}, {"raw": None}, {"raw": " "}, {"tokens": []}]
    second["sentences"] = []
    with pytest.warns(UserWarning, match=r"left out captions of '.*': 4 of 7 \(2 null, "):
        dataset = open_dataset(split_spec(split_document), "train")
    assert dataset.text(0).captions == ("None",)
    assert len(dataset) == 2
    assert dataset.reading.left_out == {"null": 2, "blank": 1, "missing": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("images"), "has no list 'images': give a file of Karpathy's splits"),
        (
            lambda document: document["images"][0].pop("split"),
            "an image without 'split': give a file of Karpathy",
        ),
        (
            lambda document: document["images"][0].pop("filename"),
            "an image without 'filename' and 'sentences'",
        ),
        (
            lambda document: document["images"].clear(),
            "has no image with a caption in the split 'train'.* are none",
        ),
        (lambda document: document["images"][0].update(filename="no.jpg"), ""),
    ],
)
def test_a_damaged_split_file_is_one_line(
    split_document: dict[str, Any],
    split_spec: Callable[..., str],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    change(split_document)
    if not message:  # an image that is missing is counted when it is read
        assert len(open_dataset(split_spec(split_document), "train")) == 3
        return
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(split_spec(split_document), "train")


def test_an_unknown_split_offers_only_splits_of_a_file(
    split_document: dict[str, Any], split_spec: Callable[..., str]
) -> None:
    with pytest.raises(ValueError, match=r"unknown split .*: choose one of: restval, test, train, val, validation$"):
        open_dataset(split_spec(split_document, "/x"), "train")
    with pytest.raises(ValueError, match="unknown split"):
        open_dataset(split_spec(split_document, "/teacher"), "train")


def test_a_wrong_spec_shows_the_syntax(split_document: dict[str, Any], split_spec: Callable[..., str]) -> None:
    right = split_spec(split_document)
    file = right.partition(":")[2].partition("@")[0]
    for wrong, message in (
        (f"karpathy:{file}", "write it as karpathy:dataset_flickr30k.json@images"),
        (split_spec(split_document, "/tset"), "did you mean 'test'"),
        (file, f"write coco:{file}@DIR .* karpathy:{file}@DIR"),
        (right.replace("karpathy:", "coco:"), "has no list 'annotations': .* karpathy:FILE.json@DIR"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset(wrong, "train")
